#pragma once
// One layer with everything that its passes need, and the counters that compositions are compared
// by.
#include <algorithm>
#include <type_traits>

#include "data.hpp"
#include "shapes.hpp"
#include "space.hpp"
#include "timer.hpp"

namespace moe_bench {

using moe::Result;

// Gradients are of the parameters' element type. GivenK > 0: a layer with GivenRouting<GivenK>,
// whose ids and weights are those of a softmax over the GivenK largest of random logits (of all
// logits where K is 1). Passes may be told another handle of the same space: one with a profiler.
template <class ExecT, class T, int GivenK, class LayerT, class ExpertT>
class LayerCase {
 public:
  // `common`: how much alike tokens are, and so how far experts' loads differ (data.hpp)
  LayerCase(
      LayerT const& layer, ExpertT const&, Shape const& s, moe::Products products, float common)
      : layer_{layer},
        shape_{s},
        space_{products},
        params_{layer.template make_params<T>(
            exec(), {.hidden = s.hidden, .experts = s.experts, .expert = {.ffn = s.ffn}})},
        grads_{layer.template make_params<T>(exec(), params_.sizes())},
        x_{uniform_tensor<T>(exec(), s.tokens, s.hidden, 2, common)},
        dy_{uniform_tensor<T>(exec(), s.tokens, s.hidden, 4)},
        y_{exec(), s.tokens, s.hidden},
        dx_{exec(), s.tokens, s.hidden},
        bytes_before_{space_.bytes_in_use()},
        saved_{layer.template make_saved<T>(exec(), params_.sizes(), s.tokens)},
        saved_bytes_{space_.bytes_in_use() - bytes_before_}
  {
    fill(exec(), params_.flat(), 1, std::sqrt(3.f / static_cast<float>(s.hidden)));
    if constexpr (GivenK > 0) { give_routing(common); }
    forward();  // memory, caches and loads for the counters
  }

  [[nodiscard]] ExecT const& exec() const { return space_.exec(); }

  void forward() { forward(exec()); }
  void backward(Result result = Result::overwrite) { backward(exec(), result); }
  void evaluate() { layer_.evaluate(exec(), params_, input(), y_.view()); }
  void forward(ExecT const& on) { layer_.forward(on, params_, input(), y_.view(), saved_); }
  // Gradients are overwritten, as a step of one micro-batch does, unless told.
  void backward(ExecT const& on, Result result = Result::overwrite)
  {
    layer_.backward(on,
                    params_,
                    saved_,
                    input(),
                    dy_.const_view(),
                    moe::overwrite(grads_.view(), result == Result::overwrite),
                    dx_.view(),
                    d_given_weight_.view());
  }

  // Of the forward pass's products of the experts' rows that were kept; backward has twice as many.
  [[nodiscard]] double forward_flops() const
  {
    auto const s    = saved_.statistics(exec());
    auto const rows = static_cast<double>(s.assigned) * (1 - s.dropped_fraction());
    return 2. * rows * static_cast<double>(shape_.hidden) * static_cast<double>(shape_.ffn) *
           (ExpertT::arity + 1);
  }

  // That have a row, of the forward pass.
  [[nodiscard]] index_t experts_in_use() const
  {
    auto const kept = saved_.statistics(exec()).kept_per_expert;
    return std::count_if(kept.begin(), kept.end(), [](auto n) { return n > 0; });
  }

  // Counters of a row that times forward and backward.
  void count(benchmark::State& state) const
  {
    state.counters["tokens/s"] = per_second(static_cast<double>(shape_.tokens));
    state.counters["FLOP/s"]   = per_second(3 * forward_flops());
    count_load(state);
  }
  void count_load(benchmark::State& state) const
  {
    auto const s                  = saved_.statistics(exec());
    state.counters["saved_bytes"] = bytes(saved_bytes_);
    state.counters["drop_rate"]   = s.dropped_fraction();
    state.counters["max/mean"]    = s.max_over_mean();
  }

 private:
  using Params =
      decltype(std::declval<LayerT>().template make_params<T>(std::declval<ExecT>(), {}));

  [[nodiscard]] typename LayerT::template Input<T, ExecT> input() const
  {
    typename LayerT::template Input<T, ExecT> in{.x = x_.const_view()};
    if constexpr (GivenK > 0) {
      in.given_expert = moe::View<moe::Id const, 2, ExecT>(
          given_.expert.const_view().data_handle(), shape_.tokens, GivenK);
      in.given_weight = moe::View<float const, 2, ExecT>(
          given_.weight.const_view().data_handle(), shape_.tokens, GivenK);
    }
    return in;
  }
  void give_routing(float common)
  {
    index_t const tokens = shape_.tokens;
    auto logits          = uniform_tensor<float>(exec(), tokens, shape_.experts, 5, common);
    if (shape_.zipf > 0) {
      exec().for_each_row(tokens, ZipfLogitsRow<ExecT>{logits.view(), 5, shape_.zipf});
    }
    given_          = moe::Routing<float, ExecT>(exec(), tokens, tokens * GivenK, GivenK);
    d_given_weight_ = moe::Tensor<float, 2, ExecT>(exec(), tokens, GivenK);
    using RouterT =
        std::conditional_t<GivenK == 1, moe::SoftmaxTopK<GivenK>, moe::TopKSoftmax<GivenK>>;
    moe::as_stage(RouterT{}).route(exec(),
                                   moe::SelfCommunicator{},
                                   moe::RoutingInput<float, ExecT>{tokens, shape_.experts},
                                   logits.const_view(),
                                   given_.view());
  }

  LayerT layer_;
  Shape shape_;
  Space<ExecT> space_;  // before what lives in its memory
  Params params_, grads_;
  moe::Tensor<T, 2, ExecT> x_, dy_, y_, dx_;
  moe::Routing<float, ExecT> given_;
  moe::Tensor<float, 2, ExecT> d_given_weight_;
  std::size_t bytes_before_;
  typename LayerT::template Saved<T, ExecT> saved_;
  std::size_t saved_bytes_;
};

template <class ExecT, class T = float, int GivenK = 0, class LayerT, class ExpertT>
LayerCase<ExecT, T, GivenK, LayerT, ExpertT> layer_case(
    LayerT const& layer,
    ExpertT const& expert,
    Shape const& s,
    moe::Products products = moe::Products::automatic,
    float common           = 0.5f)
{
  return {layer, expert, s, products, common};
}

}  // namespace moe_bench
