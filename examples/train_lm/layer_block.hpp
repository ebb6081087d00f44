#pragma once
// A MoE block made of a moe::Layer: what this trainer asks of the library.
#include <algorithm>
#include <utility>

#include "moe_block.hpp"
#include "space.hpp"

namespace train_lm {

template <class ExecT, class LayerT>
class LayerBlock : public MoeBlock<ExecT> {
  using Base        = MoeBlock<ExecT>;
  using Params      = typename LayerT::template Params<float, ExecT>;
  using ConstParams = typename LayerT::template Params<float const, ExecT>;
  using Input       = moe::LayerInput<float, ExecT>;

 public:
  using typename Base::Gradients, typename Base::Rows, typename Base::RowsOut,
      typename Base::Values;

  // `selection_bias` (E), which the layer's router looks at, or empty
  LayerBlock(ExecT const& exec,
             LayerT const& layer,
             BlockShape const& shape,
             moe::ExpertRange experts_here,
             moe::Tensor<float, 1, ExecT> selection_bias)
      : layer_{layer},
        shape_{shape},
        sizes_{sizes(shape, experts_here)},
        selection_bias_{std::move(selection_bias)},
        saved_{layer_.template make_saved<float>(
            exec, sizes_, shape.sequences * shape.context, shape.sequences)},
        step_(exec, 1)
  {
    begin_step(exec, 0, 0);
  }

  [[nodiscard]] Pieces pieces() const override
  {
    Layout<Params, ExecT> const here(sizes_), whole(sizes(shape_, {0, shape_.experts}));
    auto const &mine = here.views(), &all = whole.views();
    Pieces p{.list = {}, .here = here.size(), .whole = whole.size()};
    add_on_all(p.list, spans(here, mine.gate), spans(whole, all.gate));
    add_on_all(p.list, spans(here, mine.shared), spans(whole, all.shared));
    index_t const first = sizes_.first_expert;
    add_experts(p.list, spans(here, mine.experts), spans(whole, all.experts), first);
    return p;
  }
  void initialize(ExecT const& exec, View<float, 1, ExecT> parameters) const override
  {
    moe::initialize(exec, carve<Params>(parameters), own_seed());
  }

  void begin_step(ExecT const& exec, index_t step, double progress) override
  {
    moe::StepState const state{.step        = static_cast<std::uint64_t>(step),
                               .seed        = own_seed(),
                               .temperature = 2 - progress,  // a tempered gate sharpens
                               .loss_scale  = 1};
    exec.copy_from_host(step_.view().data_handle(), &state, sizeof state);
  }

  void forward(ExecT const& exec, Values parameters, Rows x, RowsOut y) override
  {
    layer_.forward(exec, carve<ConstParams>(parameters), input(x, shape_.sequences), y, saved_);
  }
  void backward(ExecT const& exec,
                Values parameters,
                Rows x,
                Rows dy,
                Gradients gradients,
                RowsOut dx) override
  {
    layer_.backward(exec,
                    carve<ConstParams>(parameters),
                    saved_,
                    input(x, shape_.sequences),
                    dy,
                    moe::overwrite(carve<Params>(gradients)),
                    dx);
  }
  void all_reduce_gradients(ExecT const& exec, Gradients gradients) const override
  {
    layer_.all_reduce_gradients(exec, carve<Params>(gradients));
  }
  void end_step(ExecT const& exec) override
  {
    if (selection_bias_.extent(0) == 0) { return; }
    moe::update_selection_bias(
        exec, saved_.plan.tokens_per_expert.const_view(), selection_bias_.view());
  }

  void evaluate(
      ExecT const& exec, Values parameters, index_t sequences, Rows x, RowsOut y) const override
  {
    layer_.evaluate(exec, carve<ConstParams>(parameters), input(x, sequences), y);
  }
  void silence(ExecT const& exec, View<float, 1, ExecT> parameters) const override
  {
    carve<Params>(parameters).experts.for_each([&](char const*, auto const& view, moe::Init) {
      exec.zero(view.data_handle(), static_cast<std::size_t>(view.size()) * sizeof(float));
    });
  }

  [[nodiscard]] BlockReport report(ExecT const& exec) const override
  {
    BlockReport report{.load = saved_.statistics(exec), .loss = 0};
    for (float const loss : saved_.losses(exec)) {
      report.loss += static_cast<double>(loss);
    }
    return report;
  }
  [[nodiscard]] View<float, 1, ExecT> selection_bias() override { return selection_bias_.view(); }

 private:
  static typename LayerT::Sizes sizes(BlockShape const& shape, moe::ExpertRange here)
  {
    typename LayerT::Sizes s{.hidden  = shape.hidden,
                             .experts = shape.experts,
                             .expert  = {.ffn = shape.ffn},
                             .gate    = {},
                             .shared  = {.expert = {.ffn = shape.shared_ffn}}};
    if (here.count < shape.experts) {
      s.local_experts = here.count;
      s.first_expert  = here.first;
    }
    if constexpr (requires { s.gate.rank; }) { s.gate.rank = (shape.experts + 1) / 2; }
    if constexpr (requires { s.gate.projection; }) { s.gate.projection = (shape.hidden + 1) / 2; }
    return s;
  }
  template <class P, class T>
  [[nodiscard]] P carve(View<T, 1, ExecT> memory) const
  {
    moe::Carver<T, ExecT> carver(memory.data_handle());
    return P::carve(carver, sizes_);
  }
  [[nodiscard]] Input input(Rows x, index_t sequences) const
  {
    return {.x           = x,
            .sequences   = std::max<index_t>(sequences, 1),  // a rank may have none, of no tokens
            .step        = step_.const_view(),
            .first_token = shape_.first_token};
  }
  // Blocks that shared a seed would start alike and draw the same noise.
  [[nodiscard]] std::uint64_t own_seed() const
  {
    return shape_.seed * 1000 + static_cast<std::uint64_t>(shape_.number) + 1;
  }

  LayerT layer_;
  BlockShape shape_;
  typename LayerT::Sizes sizes_;
  moe::Tensor<float, 1, ExecT> selection_bias_;  // (E) or empty
  typename LayerT::template Saved<float, ExecT> saved_;
  moe::Tensor<moe::StepState, 1, ExecT> step_;  // (1)
};

// The block of a router, a capacity policy, a dispatcher, an expert kernel, and gate and losses as
// far as given; the shared expert is in all of them.
template <class ExecT,
          class RouterT,
          class CapacityT,
          class DispatcherT,
          class ExpertT,
          class... ExtraTs>
[[nodiscard]] MoeBlockPtr<ExecT> compose(ExecT const& exec,
                                         BlockShape const& shape,
                                         RouterT router,
                                         CapacityT capacity,
                                         DispatcherT dispatcher,
                                         ExpertT expert,
                                         moe::Tensor<float, 1, ExecT> selection_bias,
                                         ExtraTs... extras)
{
  moe::Layer layer{
      router, capacity, dispatcher, expert, moe::SharedExpert<moe::Ffn<moe::SwiGlu>>{}, extras...};
  moe::ExpertRange here{0, shape.experts};
  if constexpr (moe::SplitsExperts<DispatcherT>) { here = dispatcher.experts_here(shape.experts); }
  return std::make_unique<LayerBlock<ExecT, decltype(layer)>>(
      exec, layer, shape, here, std::move(selection_bias));
}

// What the compositions have in common where they do not differ: MiniMind's.
using DefaultRouter     = moe::SoftmaxTopK<2, moe::renormalized>;
using DefaultDispatcher = moe::BatchedDispatcher<>;
using DefaultExpert     = moe::Ffn<moe::SwiGlu>;
inline constexpr moe::MiniMindBatchLoss balance_loss{.coeff = 1e-2};
inline constexpr moe::RouterZLoss z_loss{.coeff = 1e-4};

}  // namespace train_lm
