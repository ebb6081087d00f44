#pragma once
// The layer's policies, and what is checked of them and of a call's arguments.
#include <moe/layer/check.hpp>
#include <moe/layer/compare_calls.hpp>
#include <moe/layer/requirements.hpp>

namespace moe {

template <class RouterT, class CapacityT, class DispatcherT, class ExpertT, class... ExtraTs>
class LayerPolicies
    : detail::LayerRequirements<RouterT, CapacityT, DispatcherT, ExpertT, ExtraTs...> {
  template <class, class, class, class, class...>
  friend class LayerPolicies;

 protected:
  using Types   = LayerTypes<RouterT, DispatcherT, ExpertT, ExtraTs...>;
  using Model   = typename Types::Model;
  using GateT   = typename Types::GateT;
  using SharedT = typename Types::SharedT;

  static constexpr bool has_shared        = Model::has_shared;
  static constexpr bool reproducible      = Types::reproducible;
  static constexpr std::size_t loss_count = Types::loss_count;
  static constexpr int top_k              = detail::top_k_of<RouterT>();  // 0: varies
  static constexpr bool given             = detail::IsGiven<RouterT>;

  // The parts can work on elements T in that space.
  template <class T, class ExecT>
  static constexpr bool fits =
      detail::all_met<detail::ParamsRequirements<GateT, ExpertT, T, ExecT>,
                      detail::RouterRequirements<RouterT, accumulator_t<T>, ExecT>,
                      detail::GateRequirements<GateT, T, ExecT>,
                      detail::ExpertRequirements<ExpertT, T, ExecT>,
                      detail::SharedRequirements<SharedT, T, ExecT>,
                      detail::DispatcherRequirements<DispatcherT, ExpertT, T, ExecT>>;

 public:
  using Sizes = typename Types::Sizes;  // {.hidden, .experts, .expert = {...}, .gate, .shared}
  template <class T, class ExecT>
  using Params = typename Types::template Params<T, ExecT>;
  template <class T, class ExecT>
  using Saved = typename Types::template Saved<T, ExecT>;

 protected:
  template <class T, class ExecT>
  using Routed = typename Types::template Routed<T, ExecT>;
  template <class T, class ExecT>
  using Work = typename Types::template Work<T, ExecT>;
  template <class T, class ExecT>
  using BesideExperts = typename Model::template BesideExperts<T, ExecT>;

  constexpr LayerPolicies(RouterT const& router,
                          CapacityT const& capacity,
                          DispatcherT const& dispatcher,
                          ExpertT const& expert,
                          ExtraTs const&... extras)
      : router_{router},
        capacity_{capacity},
        dispatcher_{dispatcher},
        expert_{expert},
        reduction_{detail::pick<typename Types::ReductionT>(extras...)},
        gate_{Types::Beside::gate(detail::pick<typename Types::GivenGate>(extras...), reduction_)},
        shared_{Types::Beside::shared(detail::pick<typename Types::GivenShared>(extras...),
                                      reduction_)},
        losses_{std::tuple_cat(detail::keep_if_loss(extras)...)}
  {
  }
  template <class OtherT>
  constexpr LayerPolicies(
      LayerPolicies<RouterT, CapacityT, OtherT, ExpertT, ExtraTs...> const& other,
      DispatcherT const& dispatcher)
      : router_{other.router_},
        capacity_{other.capacity_},
        dispatcher_{dispatcher},
        expert_{other.expert_},
        reduction_{other.reduction_},
        gate_{other.gate_},
        shared_{other.shared_},
        losses_{other.losses_}
  {
  }

  template <class T, class ExecT>
  [[nodiscard]] auto bound(Params<T, ExecT> const& params) const
  {
    return BoundExperts{expert_, params.experts};
  }

  template <class ExecT, class T>
  void check_forward(ExecT const& exec,
                     LayerInput<T, ExecT> const& in,
                     Params<T const, ExecT> const& params,
                     View<T, 2, ExecT> y,
                     char const* operation,
                     Saved<T, ExecT> const* saved = nullptr) const
  {
    Check const check{operation, dispatcher_.communicator().rank()};
    auto const inputs = check_call(check, in, params, saved);
    detail::check_output(check, "y", y, in.x);
    detail::ViewList outputs;
    outputs.add("", "y", y);
    detail::check_memory(check, exec, outputs, inputs);
  }

  template <class ExecT, class T, class G>
  void check_backward(ExecT const& exec,
                      Params<T const, ExecT> const& params,
                      Saved<T, ExecT> const& saved,
                      LayerInput<T, ExecT> const& in,
                      View<T const, 2, ExecT> dy,
                      Params<G, ExecT> const& grads,
                      View<T, 2, ExecT> dx,
                      View<accumulator_t<T>, 2, ExecT> d_given_weight) const
  {
    Check const check{"moe::Layer::backward", dispatcher_.communicator().rank()};
    auto inputs = check_call(check, in, params, &saved);
    detail::ViewList outputs;
    outputs.add("", "dx", dx);
    outputs.add("", "d_given_weight", d_given_weight);
    int const first = outputs.size();
    outputs.add_params("gradient of ", grads);
    detail::check_params(check, outputs, first, expected<T, ExecT>(params.layout()));
    check.that<StateError>(
        saved.filled, "saved", "not filled", "filled by forward before backward");
    detail::check_output(check, "dy", dy, in.x);
    detail::check_output(check, "dx", dx, in.x);
    detail::check_given_gradient(check, d_given_weight, in.x.extent(0), top_k, given);
    inputs.add("", "dy", dy);
    detail::check_memory(check, exec, outputs, inputs);
  }

  template <class Visit>
  void for_each_loss([[maybe_unused]] Visit visit) const
  {
    [&]<std::size_t... Index>(std::index_sequence<Index...>) {
      (visit.template operator()<Index>(std::get<Index>(losses_)), ...);
    }(std::make_index_sequence<loss_count>{});
  }

  RouterT router_;
  CapacityT capacity_;
  DispatcherT dispatcher_;
  ExpertT expert_;
  typename Types::ReductionT reduction_;  // gate and shared expert are made with it
  GateT gate_;
  SharedT shared_;
  typename Types::Losses losses_;

  static constexpr SlotLayout layout = DispatcherT::template layout<CapacityT>;

  // `sizes` with the number of experts that are at this rank.
  [[nodiscard]] Sizes here(Sizes sizes) const
  {
    if constexpr (SplitsExperts<DispatcherT>) {
      auto const range    = dispatcher_.experts_here(sizes.experts);
      sizes.local_experts = range.count;
      sizes.first_expert  = range.first;
    }
    return sizes;
  }

  // Collective, where ranks share the layer and their dispatcher wants to know.
  template <class T, class ExecT>
  void compare_calls([[maybe_unused]] ExecT const& exec,
                     [[maybe_unused]] char const* operation,
                     [[maybe_unused]] Sizes sizes) const
  {
    if constexpr (SplitsExperts<DispatcherT>) {
      if (!dispatcher_.compares_calls()) { return; }
      sizes.local_experts = -1;
      Carver<T, ExecT> count;  // of all sizes that parameters have
      Params<T, ExecT>::carve(count, sizes);
      detail::compare_calls(exec,
                            dispatcher_.communicator(),
                            operation,
                            {{"pass", detail::text_number(operation)},
                             {"type of the layer", detail::type_number<LayerPolicies>()},
                             {"bytes of an element", static_cast<index_t>(sizeof(T))},
                             {"hidden", sizes.hidden},
                             {"experts", sizes.experts},
                             {"chunks", dispatcher_.chunks()},
                             {"parameters of all experts", count.used()},
                             {"block of the reduction", block()}});
    }
  }

  // Of the reproducible reduction, in tokens.
  [[nodiscard]] index_t block() const
  {
    if constexpr (reproducible) {
      return reduction_.block;
    } else {
      return 0;
    }
  }
  // The space with the products that the reduction wants.
  template <class ExecT>
  [[nodiscard]] static ExecT on(ExecT const& exec)
  {
    if constexpr (reproducible && requires { exec.with_own_products(); }) {
      return exec.with_own_products();
    } else {
      return exec;
    }
  }

  // Where the number of choices varies, K is its mean, rounded up.
  [[nodiscard]] RoutingShape shape(Sizes const& sizes, index_t tokens) const
  {
    index_t const mean = tokens == 0 ? 0 : (assignments(sizes, tokens) + tokens - 1) / tokens;
    return {tokens, sizes.experts, top_k > 0 ? top_k : mean};
  }

  void check_batch(Check const& check, Sizes const& sizes, index_t tokens, index_t sequences) const
  {
    check_policies(check, sizes);
    check.at_least("tokens", tokens, 0);
    check.at_least("sequences", sequences, 1);
    check.equal("tokens modulo sequences", tokens % sequences, "no remainder", 0);
    detail::check_ids(check, "tokens", tokens);
    detail::check_ids(check, "tokens x top_k", assignments(sizes, tokens));
    detail::check_ids(check, "experts x capacity", most_slots(sizes, tokens));
    for_each_loss([&]<std::size_t Index>(auto const& loss) {
      if (loss.scope == LoadScope::sequence) {
        detail::check_ids(check, "sequences x experts", sequences * sizes.experts);
      }
    });
    (void)checked_mul(check.operation, "tokens x hidden", tokens, sizes.hidden);
  }
  // The parameters' views that `sizes` asks for.
  template <class T, class ExecT>
  [[nodiscard]] static detail::ViewList expected(Sizes const& sizes)
  {
    Carver<T const, ExecT> counter;
    detail::ViewList list;
    list.add_params("", Params<T const, ExecT>::carve(counter, sizes));
    return list;
  }
  // Returns the views that are read, for what may not overlap them.
  template <class T, class ExecT>
  detail::ViewList check_call(Check const& check,
                              LayerInput<T, ExecT> const& in,
                              Params<T const, ExecT> const& params,
                              Saved<T, ExecT> const* saved) const
  {
    check_split(check, params.layout());
    auto const sizes     = here(params.layout());
    index_t const tokens = in.x.extent(0);
    check_batch(check, sizes, tokens, in.sequences);
    detail::check_input(check, in, sizes, top_k, given);
    auto inputs = detail::views_of(in);
    detail::add_bias<ExecT>(check, router_, inputs);
    int const first = inputs.size();
    inputs.add_params("", params);
    detail::check_params(check, inputs, first, expected<T, ExecT>(sizes));
    if (saved != nullptr) {
      detail::check_saved(check,
                          *saved,
                          sizes,
                          tokens,
                          in.sequences,
                          assignments(sizes, tokens),
                          most_slots(sizes, tokens));
    }
    return inputs;
  }
  // The experts that are here are this rank's part of all.
  void check_split(Check const& check, Sizes const& sizes) const
  {
    Sizes all         = sizes;
    all.local_experts = -1;
    check.equal(
        "experts of this rank", sizes.experts_here(), "its part of all", here(all).experts_here());
  }
  // Sizes and policies against one another.
  void check_policies(Check const& check, Sizes const& sizes) const
  {
    detail::check_sizes(check, sizes, top_k);
    detail::check_policy(check, router_, sizes.experts);
    detail::check_policy(check, capacity_, sizes.experts);
    detail::check_policy(check, reduction_, sizes.experts);
    detail::check_policy(check, gate_, Model::gate_layout(sizes));
    detail::check_policy(check, expert_, Model::expert_layout(sizes));
    if constexpr (has_shared) { detail::check_policy(check, shared_, Model::shared_layout(sizes)); }
    for_each_loss([&]<std::size_t Index>(auto const& loss) {
      detail::check_policy(check, loss, sizes.experts);
    });
  }

  [[nodiscard]] index_t assignments(Sizes const& sizes, index_t tokens) const
  {
    if constexpr (HasAssignmentsOfRank<RouterT>) {
      index_t const ranks = dispatcher_.communicator().size();
      return router_.assignments(tokens, sizes.experts, ranks);
    } else {
      return as_stage(router_).assignments(tokens, sizes.experts);
    }
  }
  [[nodiscard]] index_t most_slots(Sizes const& sizes, index_t tokens) const
  {
    return slots_bound(capacity_, layout, shape(sizes, tokens), assignments(sizes, tokens));
  }
};

}  // namespace moe
