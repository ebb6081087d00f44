#pragma once
// What a layer works on beside its arguments: parameters, saved state and scratch, made for its
// sizes.
#include <moe/layer/policies.hpp>

namespace moe {

template <class RouterT, class CapacityT, class DispatcherT, class ExpertT, class... ExtraTs>
class LayerState : public LayerPolicies<RouterT, CapacityT, DispatcherT, ExpertT, ExtraTs...> {
  using Policies = LayerPolicies<RouterT, CapacityT, DispatcherT, ExpertT, ExtraTs...>;

 protected:
  using typename Policies::GateT, typename Policies::Model, typename Policies::SharedT;
  template <class T, class ExecT>
  using Routed = typename Policies::template Routed<T, ExecT>;
  template <class T, class ExecT>
  using Work = typename Policies::template Work<T, ExecT>;
  using Policies::assignments, Policies::check_batch, Policies::check_policies,
      Policies::for_each_loss, Policies::most_slots;
  using Policies::dispatcher_, Policies::expert_, Policies::gate_, Policies::shared_;
  using Policies::has_shared, Policies::layout, Policies::loss_count, Policies::top_k;

  using Policies::Policies;

 public:
  using typename Policies::Sizes;
  template <class T, class ExecT>
  using Params = typename Policies::template Params<T, ExecT>;
  template <class T, class ExecT>
  using Saved = typename Policies::template Saved<T, ExecT>;

  // One allocation for all parameters or all gradients of this rank, zeros; initialize() gives them
  // values. `sizes` are the whole layer's, whatever rank has which experts.
  template <class T, class ExecT>
  [[nodiscard]] auto make_params(ExecT const& exec, Sizes const& sizes) const
  {
    static_assert(detail::ParamsRequirements<GateT, ExpertT, T, ExecT>::met);
    check_policies(Check{"moe::Layer::make_params"}, sizes);
    return OwnedParams<Params, T, Sizes, ExecT>(exec, Policies::here(sizes));
  }

  // What forward fills and backward reads, for `tokens` = T tokens in `sequences` sequences.
  template <class T, class ExecT>
  [[nodiscard]] Saved<T, ExecT> make_saved(ExecT const& exec,
                                           Sizes const& all,
                                           index_t tokens,
                                           index_t sequences = 1) const
  {
    static_assert(Policies::template fits<T, ExecT>);
    using S           = accumulator_t<T>;
    Sizes const sizes = Policies::here(all);
    check_batch(Check{"moe::Layer::make_saved"}, sizes, tokens, sequences);
    Saved<T, ExecT> saved{
        make_routed<T>(exec, sizes, tokens, sequences),
        dispatcher_.template make_saved<T>(
            exec, expert_, Model::expert_layout(sizes), most_slots(sizes, tokens)),
        make_shared<T>(exec, sizes, tokens),
        {},
        Tensor<S, 1, ExecT>(exec, static_cast<index_t>(loss_count)),
        Tensor<Id, 1, ExecT>(exec, 1),
        Tensor<Id, 1, ExecT>(exec, 1)};
    for_each_loss([&]<std::size_t Index>(auto const& loss) {
      bool const per_sequence = loss.scope == LoadScope::sequence;
      saved.loads[Index]      = Load<S, ExecT>(exec, per_sequence ? sequences : 1, sizes.experts);
    });
    return saved;
  }

 protected:
  // Whether anything but the experts adds to dx.
  static constexpr bool has_dx_addend = has_shared || gate_reads_x<GateT>();

  template <class T, class ExecT>
  [[nodiscard]] auto make_shared([[maybe_unused]] ExecT const& exec,
                                 [[maybe_unused]] Sizes const& sizes,
                                 [[maybe_unused]] index_t tokens) const
  {
    if constexpr (has_shared) {
      return shared_.template make_saved<T>(exec, Model::shared_layout(sizes), tokens);
    } else {
      return typename detail::SharedState<false, T, ExecT, SharedT>::Saved{};
    }
  }

  template <class T, class ExecT>
  [[nodiscard]] auto make_shared_carry([[maybe_unused]] ExecT const& exec,
                                       [[maybe_unused]] Sizes const& sizes,
                                       [[maybe_unused]] index_t tokens) const
  {
    if constexpr (has_shared) {
      return shared_.template make_carry<T>(exec, Model::shared_layout(sizes), tokens);
    } else {
      return typename detail::SharedState<false, T, ExecT, SharedT>::Carry{};
    }
  }

  template <class T, class ExecT>
  [[nodiscard]] Routed<T, ExecT> make_routed(ExecT const& exec,
                                             Sizes const& sizes,
                                             index_t tokens,
                                             index_t sequences) const
  {
    using S             = accumulator_t<T>;
    index_t const A     = assignments(sizes, tokens);
    index_t const slots = most_slots(sizes, tokens);
    return {.sizes       = sizes,
            .tokens      = tokens,
            .sequences   = sequences,
            .gate        = gate_.template make_saved<T>(exec, Model::gate_layout(sizes), tokens),
            .logits      = Tensor<S, 2, ExecT>(exec, tokens, logit_columns<RouterT>(sizes.experts)),
            .routing     = Routing<S, ExecT>(exec, tokens, A, top_k),
            .kept_weight = Tensor<S, 1, ExecT>(exec, RenormalizesKept<RouterT> ? A : 0),
            .plan        = RoutingPlan<ExecT>(exec, layout, sizes.experts, A, slots)};
  }

  template <class T, class ExecT, class SavedT>
  [[nodiscard]] Work<T, ExecT> make_work(ExecT const& exec,
                                         SavedT const& saved,
                                         LayerInput<T, ExecT> const& in) const
  {
    using S           = accumulator_t<T>;
    auto const& sizes = saved.sizes;
    return {.d_weight = Tensor<S, 1, ExecT>(exec, saved.routing.expert.extent(0)),
            .d_logits = Tensor<S, 2, ExecT>(exec, saved.tokens, saved.logits.extent(1)),
            .addend   = Tensor<S, 2, ExecT>(exec, has_dx_addend ? saved.tokens : 0, sizes.hidden),
            .masked_x = make_masked(exec, in),
            .gate     = gate_.template make_carry<T>(exec, Model::gate_layout(sizes), saved.tokens),
            .experts  = dispatcher_.template make_work<T>(
                exec, expert_, Model::expert_layout(sizes), saved.experts, saved.plan.rows()),
            .shared = make_shared_carry<T>(exec, sizes, saved.tokens),
            .blocks = make_block_grads<S>(exec, sizes, saved.blocks)};
  }

  // For a gradient of gate and shared expert from each block; nothing without blocks.
  template <class S, class ExecT>
  [[nodiscard]] detail::BlockGrads<S, ExecT> make_block_grads(ExecT const& exec,
                                                              Sizes const& sizes,
                                                              BlockCounts counts) const
  {
    Carver<S, ExecT> count;
    if constexpr (Policies::reproducible) {
      Model::template BesideExperts<S, ExecT>::carve(count, sizes);
    }
    index_t const n = count.used();
    return {Tensor<S, 2, ExecT>(exec, counts.here, n),
            Tensor<S, 1, ExecT>(exec, n),
            BlockSumWork<S, ExecT>(exec, dispatcher_.communicator().size(), counts, n)};
  }

  // Room for x as the gate reads it; nothing without a mask, or where it does not.
  template <class T, class ExecT>
  [[nodiscard]] Tensor<T, 2, ExecT> make_masked(ExecT const& exec,
                                                LayerInput<T, ExecT> const& in) const
  {
    bool const masks = gate_reads_x<GateT>() && !in.mask.empty();
    return Tensor<T, 2, ExecT>(exec, masks ? in.x.extent(0) : 0, in.x.extent(1));
  }

  // Room for the shared expert's part of y; nothing without one.
  template <class T, class ExecT>
  [[nodiscard]] Tensor<accumulator_t<T>, 2, ExecT> make_addend(ExecT const& exec,
                                                               View<T const, 2, ExecT> x) const
  {
    return Tensor<accumulator_t<T>, 2, ExecT>(exec, has_shared ? x.extent(0) : 0, x.extent(1));
  }
};

}  // namespace moe
