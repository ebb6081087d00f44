#pragma once
// The stages between the policies, as layer.hpp calls them by name.
#include <moe/layer/masked_rows.hpp>
#include <moe/layer/state.hpp>
#include <moe/route/row_maximum.hpp>

namespace moe {

template <class RouterT, class CapacityT, class DispatcherT, class ExpertT, class... ExtraTs>
class LayerStages : public LayerState<RouterT, CapacityT, DispatcherT, ExpertT, ExtraTs...> {
  using State = LayerState<RouterT, CapacityT, DispatcherT, ExpertT, ExtraTs...>;

 protected:
  template <class T, class ExecT>
  using Params = typename State::template Params<T, ExecT>;
  template <class T, class ExecT>
  using Routed = typename State::template Routed<T, ExecT>;
  using State::capacity_, State::dispatcher_, State::gate_, State::router_, State::shared_;
  using State::for_each_loss, State::has_shared, State::shape, State::top_k;

  using State::State;

  // gate -> logits, route -> ids and weights, plan -> slots
  template <class ExecT, class T>
  void route(ExecT const& exec,
             Params<T const, ExecT> const& params,
             LayerInput<T, ExecT> const& in,
             bool training,
             Routed<T, ExecT>& to) const
  {
    using S           = accumulator_t<T>;
    auto const phase  = exec.phase(Phase::router);
    auto const comm   = dispatcher_.communicator();
    auto const input  = routing_input(in, to.sizes.experts, training);
    auto memory       = State::make_masked(exec, in);
    auto const gate_x = detail::masked_rows(exec, in.x, in.mask, memory);
    gate_.forward(exec, params.gate, in.step, gate_x, to.gate, to.logits.view());
    auto const logits = to.logits.const_view();
    as_stage(router_).route(exec, comm, input, logits, to.routing.view());

    Tensor<float, 1, ExecT> row_max(exec, CapacityT::bounded ? in.x.extent(0) : 0);
    if constexpr (CapacityT::bounded) {
      exec.for_each_row(in.x.extent(0),
                        detail::RowMaximumRow<S, ExecT>{logits,
                                                        to.sizes.experts,
                                                        to.routing.assignments(),
                                                        to.routing.weight.const_view(),
                                                        row_max.view()});
    }
    make_plan(exec,
              comm,
              capacity_,
              shape(to.sizes, to.tokens),
              to.routing,
              row_max.const_view(),
              to.plan);
    if constexpr (RenormalizesKept<RouterT>) {
      exec.for_each_row(to.tokens,
                        detail::RenormalizeKeptRow<S, ExecT>{to.routing.assignments(),
                                                             to.plan.slot_of.const_view(),
                                                             to.routing.weight.const_view(),
                                                             to.kept_weight.view()});
    }
  }

  // The losses' values, and what LoadStatistics tells.
  template <class ExecT, class T, class SavedT>
  void measure(ExecT const& exec, LayerInput<T, ExecT> const& in, SavedT& saved) const
  {
    auto const phase = exec.phase(Phase::losses);
    auto const input = routing_input(in, saved.sizes.experts, true);
    auto const comm  = dispatcher_.communicator();
    auto const value = saved.loss_values.view().data_handle();
    for_each_loss([&]<std::size_t Index>(auto const& loss) {
      count_load<std::decay_t<decltype(loss)>>(
          exec, comm, input, saved.routing, saved.loads[Index]);
      loss_value(exec,
                 loss,
                 input,
                 saved.logits.const_view(),
                 saved.loads[Index],
                 mean_top_k(saved),
                 View<accumulator_t<T>, 1, ExecT>(value + Index, 1));
    });
    if constexpr (State::loss_count > 0) { comm.all_reduce_sum(exec, saved.loss_values.view()); }
    count_bad_input(exec,
                    input,
                    saved.logits.const_view(),
                    saved.routing,
                    saved.non_finite.view(),
                    saved.invalid.view());
  }

  // The shared expert's part of y, which the combine adds to the routed ones'.
  template <class ExecT, class T, class SharedSavedT>
  void share([[maybe_unused]] ExecT const& exec,
             [[maybe_unused]] Params<T const, ExecT> const& params,
             [[maybe_unused]] LayerInput<T, ExecT> const& in,
             [[maybe_unused]] SharedSavedT& saved,
             [[maybe_unused]] View<accumulator_t<T>, 2, ExecT> addend) const
  {
    if constexpr (has_shared) {
      auto const phase = exec.phase(Phase::shared_expert);
      shared_.forward(exec, params.shared, in.x, saved, addend);
    }
  }

  // d_weight -> d_logits, through drops' renormalisation and the router, and the losses' part.
  template <class ExecT, class T, class SavedT, class WorkT>
  void route_backward(ExecT const& exec,
                      LayerInput<T, ExecT> const& in,
                      SavedT const& saved,
                      WorkT& work,
                      View<accumulator_t<T>, 2, ExecT> d_given_weight) const
  {
    using S           = accumulator_t<T>;
    auto const phase  = exec.phase(Phase::router);
    auto const input  = routing_input(in, saved.sizes.experts, true);
    auto const logits = saved.logits.const_view();
    auto const d      = work.d_weight.view();
    if constexpr (RenormalizesKept<RouterT>) {
      exec.for_each_row(
          saved.tokens,
          detail::RenormalizeKeptBackwardRow<S, ExecT>{saved.routing.assignments(),
                                                       saved.plan.slot_of.const_view(),
                                                       saved.routing.weight.const_view(),
                                                       saved.kept_weight.const_view(),
                                                       d});
    }
    exec.zero(work.d_logits.view().data_handle(), work.d_logits.bytes());
    as_stage(router_).route_backward(exec,
                                     input,
                                     logits,
                                     saved.routing.const_view(),
                                     work.d_weight.const_view(),
                                     work.d_logits.view());
    for_each_loss([&]<std::size_t Index>(auto const& loss) {
      auto const of_loss = exec.phase(Phase::losses);
      loss_backward(
          exec, loss, input, logits, saved.loads[Index], mean_top_k(saved), work.d_logits.view());
    });
    if (!d_given_weight.empty()) {
      exec.copy(d_given_weight.data_handle(), d.data_handle(), work.d_weight.bytes());
    }
  }

  // What reads x itself, not the experts' rows: the gate, then the shared expert. Their part of dx
  // is the addend of the combine's.
  template <class ExecT, class T, class SavedT, class WorkT>
  void direct_backward_data(ExecT const& exec,
                            Params<T const, ExecT> const& params,
                            LayerInput<T, ExecT> const& in,
                            SavedT const& saved,
                            [[maybe_unused]] View<T const, 2, ExecT> dy,
                            WorkT& work) const
  {
    auto const phase    = exec.phase(Phase::router);
    auto const d_logits = work.d_logits.const_view();
    auto const addend   = work.addend.view();
    auto const gate_x   = detail::masked_rows(exec, in.x, in.mask, work.masked_x);
    gate_.backward_data(
        exec, params.gate, saved.gate, in.step, gate_x, d_logits, work.gate, addend);
    if constexpr (has_shared) {
      auto const of_shared = exec.phase(Phase::shared_expert);
      shared_.backward_data(exec, params.shared, saved.shared, in.x, dy, work.shared, addend);
    }
  }
  template <class ExecT, class T, class SavedT, class WorkT, class G>
  void direct_backward_weights(ExecT const& exec,
                               Params<T const, ExecT> const& params,
                               LayerInput<T, ExecT> const& in,
                               SavedT const& saved,
                               [[maybe_unused]] View<T const, 2, ExecT> dy,
                               WorkT& work,
                               Params<G, ExecT> const& grads) const
  {
    auto const phase    = exec.phase(Phase::router);
    auto const d_logits = work.d_logits.const_view();
    auto const gate_x   = in.mask.empty() ? in.x : work.masked_x.const_view();
    gate_.backward_weights(
        exec, params.gate, saved.gate, in.step, gate_x, d_logits, work.gate, grads.gate);
    if constexpr (has_shared) {
      auto const of_shared = exec.phase(Phase::shared_expert);
      shared_.backward_weights(exec, saved.shared, in.x, dy, work.shared, grads.shared);
    }
  }

 private:
  template <class T, class ExecT>
  static RoutingInput<accumulator_t<T>, ExecT> routing_input(LayerInput<T, ExecT> const& in,
                                                             index_t experts,
                                                             bool training)
  {
    return {in.x.extent(0),
            experts,
            training,
            in.mask,
            in.step,
            in.given_expert,
            in.given_weight,
            in.first_token};
  }

  // K for the losses' normalisation; the mean where it varies.
  template <class SavedT>
  static double mean_top_k(SavedT const& saved)
  {
    if (top_k > 0 || saved.tokens == 0) { return top_k; }
    return static_cast<double>(saved.routing.expert.extent(0)) / static_cast<double>(saved.tokens);
  }
};

}  // namespace moe