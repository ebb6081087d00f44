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

  // The blocks of ReproducibleReduction, which all ranks must have whole. Collective.
  template <class ExecT, class SavedT>
  void count_blocks(ExecT const& exec, char const* operation, SavedT& saved) const
  {
    if constexpr (State::reproducible) {
      saved.blocks = moe::count_blocks(
          exec, dispatcher_.communicator(), saved.tokens, State::block(), operation);
    }
  }

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
    auto input        = routing_input(in, to.sizes.experts, training);
    to.tokens_of_all  = tokens_of_all(exec, comm, to.tokens);
    auto memory       = State::make_masked(exec, in);
    auto const gate_x = detail::masked_rows(exec, in.x, in.mask, memory);
    gate_.forward(exec, params.gate, in.step, gate_x, to.gate, to.logits.view());
    auto const logits   = to.logits.const_view();
    input.tokens_of_all = to.tokens_of_all;
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
    auto const phase                     = exec.phase(Phase::losses);
    auto const input                     = routing_input(in, saved.sizes.experts, true);
    auto const comm                      = dispatcher_.communicator();
    auto const value                     = saved.loss_values.view().data_handle();
    [[maybe_unused]] index_t const block = State::block();
    Tensor<accumulator_t<T>, 2, ExecT> of_blocks(exec, saved.blocks.here, State::loss_count);
    for_each_loss([&]<std::size_t Index>(auto const& loss) {
      count_load<std::decay_t<decltype(loss)>>(
          exec, comm, input, saved.routing, saved.loads[Index]);
      if constexpr (State::reproducible) {
        loss_values_of_blocks(exec,
                              loss,
                              input,
                              saved.logits.const_view(),
                              saved.loads[Index],
                              mean_top_k(saved),
                              block,
                              static_cast<index_t>(Index),
                              of_blocks.view());
      } else {
        loss_value(exec,
                   loss,
                   input,
                   saved.logits.const_view(),
                   saved.loads[Index],
                   mean_top_k(saved),
                   View<accumulator_t<T>, 1, ExecT>(value + Index, 1));
      }
    });
    if constexpr (State::loss_count > 0 && State::reproducible) {
      sum_blocks_over_ranks(
          exec, comm, saved.blocks, of_blocks.const_view(), saved.loss_values.view());
    } else if constexpr (State::loss_count > 0) {
      comm.all_reduce_sum(exec, saved.loss_values.view());
    }
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
    auto const phase                     = exec.phase(Phase::router);
    [[maybe_unused]] auto const addend   = work.addend.view();
    [[maybe_unused]] auto const d_logits = work.d_logits.const_view();
    [[maybe_unused]] auto const gate_x   = detail::masked_rows(exec, in.x, in.mask, work.masked_x);
    if constexpr (State::has_dx_addend) {
      gate_.backward_data(
          exec, params.gate, saved.gate, in.step, gate_x, d_logits, work.gate, addend);
    }
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
                               Params<G, ExecT> const& grads,
                               Result result) const
  {
    auto const phase    = exec.phase(Phase::router);
    auto const d_logits = work.d_logits.const_view();
    auto const gate_x   = work.masked_x.bytes() == 0 ? in.x : work.masked_x.const_view();
    auto const weights  = [&](auto const& to_gate, [[maybe_unused]] auto const&... to_shared) {
      gate_.backward_weights(
          exec, params.gate, saved.gate, in.step, gate_x, d_logits, work.gate, to_gate);
      if constexpr (has_shared) {
        auto const of_shared = exec.phase(Phase::shared_expert);
        shared_.backward_weights(exec, saved.shared, in.x, dy, work.shared, to_shared...);
      }
    };
    if constexpr (State::reproducible) {  // block by block, then over all ranks
      using S             = accumulator_t<T>;
      auto const partials = work.blocks.partials.view();
      auto const views    = [&](S* at) {
        Carver<S, ExecT> carver(at);
        return State::template BesideExperts<S, ExecT>::carve(carver, saved.sizes);
      };
      auto const of = [&](index_t b) {
        return views(partials.data_handle() + b * partials.extent(1));
      };
      exec.zero(partials.data_handle(), work.blocks.partials.bytes());
      weights([&](index_t b) { return of(b).gate; }, [&](index_t b) { return of(b).shared; });
      detail::store_block_grads(
          exec,
          dispatcher_.communicator(),
          saved.blocks,
          work.blocks,
          views(work.blocks.total.view().data_handle()),
          typename State::template BesideExperts<G, ExecT>{grads.gate, grads.shared},
          result);
    } else {
      if (result == Result::overwrite) { detail::zero_views(exec, grads.gate); }  // gates only add
      weights(grads.gate, grads.shared, result);
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

  // Waits for the device where K varies and there are several ranks: how many tokens an expert
  // chooses, and so the mean K, depends on it.
  template <class ExecT, class CommT>
  static index_t tokens_of_all([[maybe_unused]] ExecT const& exec,
                               [[maybe_unused]] CommT const& comm,
                               index_t tokens)
  {
    if constexpr (top_k == 0 && !AlwaysAlone<CommT>) {
      if (comm.size() > 1) {
        return detail::shape_over_ranks(exec, comm, {.tokens = tokens}, 0).tokens;
      }
    }
    return tokens;
  }

  // K for the losses' normalisation; the mean over all ranks where it varies.
  template <class SavedT>
  [[nodiscard]] double mean_top_k(SavedT const& saved) const
  {
    if (top_k > 0 || saved.tokens_of_all == 0) { return top_k; }
    index_t const all = saved.tokens_of_all;
    return static_cast<double>(as_stage(router_).assignments(all, saved.sizes.experts)) /
           static_cast<double>(all);
  }
};

}  // namespace moe