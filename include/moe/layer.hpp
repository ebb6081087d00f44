#pragma once
// READ FIRST. The layer: a router, a capacity policy, a dispatcher and an expert kernel, composed
// at compile time. Its forward is the data's way through five stages, its backward the same way
// back.
//
//   x (T, D) -gate-> logits (T, N) -route-> expert, weight (A) -plan-> slots
//     -dispatch-> rows at the experts (R, D) -expert-> out (R, D) -combine-> y (T, D)
#include <moe/layer/data_parallel.hpp>
#include <moe/layer/gradient_norm.hpp>
#include <moe/layer/gradients.hpp>
#include <moe/layer/mismatch.hpp>
#include <moe/layer/stages.hpp>

namespace moe {

// After the expert come, in any order: a gate (LinearGate unless given), a shared expert, losses,
// ReproducibleReduction.
template <class RouterT, class CapacityT, class DispatcherT, class ExpertT, class... ExtraTs>
class Layer : public LayerStages<RouterT, CapacityT, DispatcherT, ExpertT, ExtraTs...>,
              detail::LayerCalls {
  using Stages = LayerStages<RouterT, CapacityT, DispatcherT, ExpertT, ExtraTs...>;
  using Stages::bound, Stages::check_backward, Stages::check_forward, Stages::count_blocks,
      Stages::direct_backward_data, Stages::direct_backward_weights, Stages::make_addend,
      Stages::measure, Stages::route, Stages::route_backward, Stages::share;

 protected:
  using Stages::dispatcher_;

 public:
  using typename Stages::Sizes;
  template <class T, class ExecT>
  using Params = typename Stages::template Params<T, ExecT>;  // of values, and of gradients
  template <class T, class ExecT>
  using Saved = typename Stages::template Saved<T, ExecT>;
  template <class T, class ExecT>
  using Input = LayerInput<T, ExecT>;
  using LayerCalls::forward, LayerCalls::backward, LayerCalls::evaluate;  // for what fits none here

  constexpr Layer(
      RouterT router, CapacityT capacity, DispatcherT dispatcher, ExpertT expert, ExtraTs... extras)
      : Stages(router, capacity, dispatcher, expert, extras...)
  {
  }
  // The same layer with another dispatcher.
  template <class OtherT>
  constexpr Layer(Layer<RouterT, CapacityT, OtherT, ExpertT, ExtraTs...> const& other,
                  DispatcherT dispatcher)
      : Stages(other, dispatcher)
  {
  }

  // y (T, D) = layer(x (T, D)). Fills `saved` for one backward; it was made for these sizes.
  template <ExecutionSpace ExecT, Element T>
  void forward(ExecT const& space,
               std::type_identity_t<Params<T const, ExecT>> const& params,
               std::type_identity_t<Input<T, ExecT>> const& in,
               View<T, 2, ExecT> y,
               std::type_identity_t<Saved<T, ExecT>>& saved) const
  {
    static_assert(Stages::template fits<T, ExecT>);
    auto const exec = Stages::on(space);
    exec.enter("moe::Layer::forward");
    auto const pass = exec.phase(Phase::forward);
    check_forward(exec, in, params, y, "moe::Layer::forward", &saved);
    Stages::template compare_calls<T>(exec, "moe::Layer::forward", saved.sizes);
    count_blocks(exec, "moe::Layer::forward", saved);
    auto addend = make_addend(exec, in.x);

    saved.filled = false;
    route(exec, params, in, /*training*/ true, saved);
    measure(exec, in, saved);
    share(exec, params, in, saved.shared, addend.view());
    dispatcher_.forward(
        exec, saved.to_dispatch(in.x), bound(params), saved.experts, addend.const_view(), y);
    saved.filled = true;
  }

  // Adds to grads (so micro-batches accumulate), or, with overwrite(grads) for grads, writes them;
  // overwrites dx (T, D). `dy` is the gradient of the objective that the losses are part of: their
  // gradients are included, times the loss scale. With GivenRouting, d_given_weight (T, K) receives
  // the weights' gradient.
  template <ExecutionSpace ExecT, Element T, Element G>
  void backward(ExecT const& space,
                std::type_identity_t<Params<T const, ExecT>> const& params,
                std::type_identity_t<Saved<T, ExecT>> const& saved,
                std::type_identity_t<Input<T, ExecT>> const& in,
                std::type_identity_t<View<T const, 2, ExecT>> dy,
                GradientsWith<Params<G, ExecT>> const& to,
                View<T, 2, ExecT> dx,
                std::type_identity_t<View<accumulator_t<T>, 2, ExecT>> d_given_weight = {}) const
  {
    static_assert(Stages::template fits<T, ExecT>);
    auto const exec = Stages::on(space);
    exec.enter("moe::Layer::backward");
    auto const pass   = exec.phase(Phase::backward);
    auto const& grads = to.grads;
    check_backward(exec, params, saved, in, dy, grads, dx, d_given_weight);
    auto work = Stages::template make_work<T>(exec, saved, in);  // all memory, before any write
    Stages::template compare_calls<T>(exec, "moe::Layer::backward", saved.sizes);
    auto const rows   = saved.to_dispatch(in.x);
    auto const result = detail::start_gradients<ExpertT, T>(exec, grads.experts, to.result);

    dispatcher_.backward_data(
        exec, rows, bound(params), saved.experts, dy, work.experts, work.d_weight.view());
    route_backward(exec, in, saved, work, d_given_weight);
    direct_backward_data(exec, params, in, saved, dy, work);
    dispatcher_.combine_backward(exec, rows, work.experts, work.addend.const_view(), dx);

    dispatcher_.backward_weights(
        exec, rows, bound(params), saved.experts, dy, work.experts, grads.experts, result);
    direct_backward_weights(exec, params, in, saved, dy, work, grads, to.result);
  }
  template <ExecutionSpace ExecT, Element T, Element G>
  void backward(ExecT const& exec,
                std::type_identity_t<Params<T const, ExecT>> const& params,
                std::type_identity_t<Saved<T, ExecT>> const& saved,
                std::type_identity_t<Input<T, ExecT>> const& in,
                std::type_identity_t<View<T const, 2, ExecT>> dy,
                Params<G, ExecT> const& grads,
                View<T, 2, ExecT> dx,
                std::type_identity_t<View<accumulator_t<T>, 2, ExecT>> d_given_weight = {}) const
  {
    backward(exec, params, saved, in, dy, overwrite(grads, false), dx, d_given_weight);
  }

  // Where experts are spread over ranks: sums over the ranks what each has of the gradients of gate
  // and shared expert, once per step, after the last micro-batch. The experts' own are complete.
  // Collective; the same bits on every rank, and again with the same number of ranks. With
  // ReproducibleReduction backward has done so already, and this does nothing.
  template <ExecutionSpace ExecT, Element G>
  void all_reduce_gradients(ExecT const& exec, Params<G, ExecT> const& grads) const
  {
    exec.enter("moe::Layer::all_reduce_gradients");
    if constexpr (Stages::reproducible) { return; }
    auto const sum = [&](char const*, auto const& view, auto const&) {
      if (view.empty()) { return; }
      dispatcher_.communicator().all_reduce_sum(exec,
                                                View<G, 1, ExecT>(view.data_handle(), view.size()));
    };
    grads.gate.for_each(sum);
    if constexpr (Stages::has_shared) { grads.shared.for_each(sum); }
  }
  // Where several groups of ranks, each with all experts, train on parts of one batch: sums over
  // the groups too, instead of the function above.
  template <ExecutionSpace ExecT, Element G, class WorldT, class ReplicasT>
  void all_reduce_gradients(ExecT const& exec,
                            Params<G, ExecT> const& grads,
                            DataParallel<WorldT, ReplicasT> const& groups) const
  {
    exec.enter("moe::Layer::all_reduce_gradients");
    typename Stages::template BesideExperts<G, ExecT> const beside{grads.gate, grads.shared};
    detail::all_reduce_groups(
        exec, dispatcher_.communicator(), groups, Stages::reproducible, grads.experts, beside);
  }

  // norm (1) = the Euclidean norm of the gradient of all ranks, each expert counted once, in the
  // space's memory, so that clipping by it need not wait. After all_reduce_gradients, collective.
  // Sums are in fixed parts of each expert, then over the experts in order: the same gradients have
  // the same norm, whatever the number of ranks.
  template <ExecutionSpace ExecT, Element G>
  void gradient_norm(ExecT const& exec,
                     Params<G, ExecT> const& grads,
                     View<double, 1, ExecT> norm) const
  {
    exec.enter("moe::Layer::gradient_norm");
    auto const& comm = dispatcher_.communicator();
    Check const check{"moe::Layer::gradient_norm", comm.rank()};
    check.equal("norm", norm.extent(0), "one number", 1);
    check.not_null("norm", norm);
    auto const sizes = grads.layout();
    typename Stages::template BesideExperts<G, ExecT> const beside{grads.gate, grads.shared};
    detail::gradient_norm(
        exec, comm, grads.experts, sizes.experts_here(), sizes.experts, beside, norm);
  }
  // The same number; waits for the device.
  template <ExecutionSpace ExecT, Element G>
  [[nodiscard]] double gradient_norm(ExecT const& exec, Params<G, ExecT> const& grads) const
  {
    Tensor<double, 1, ExecT> norm(exec, 1);
    gradient_norm(exec, grads, norm.view());
    detail::wait_for_ranks(exec, dispatcher_.communicator());
    double value = 0;
    exec.copy_to_host(&value, norm.const_view().data_handle(), sizeof(value));
    return value;
  }

  // y (T, D) = layer(x), without noise, keeping nothing.
  template <ExecutionSpace ExecT, Element T>
  void evaluate(ExecT const& space,
                std::type_identity_t<Params<T const, ExecT>> const& params,
                std::type_identity_t<Input<T, ExecT>> const& in,
                View<T, 2, ExecT> y) const
  {
    static_assert(Stages::template fits<T, ExecT>);
    auto const exec = Stages::on(space);
    exec.enter("moe::Layer::evaluate");
    auto const pass = exec.phase(Phase::evaluate);
    check_forward(exec, in, params, y, "moe::Layer::evaluate");
    auto const sizes = Stages::here(params.layout());
    Stages::template compare_calls<T>(exec, "moe::Layer::evaluate", sizes);
    auto addend = make_addend(exec, in.x);
    auto routed = Stages::template make_routed<T>(exec, sizes, in.x.extent(0), in.sequences);
    auto shared = Stages::template make_shared<T>(exec, sizes, in.x.extent(0));

    route(exec, params, in, /*training*/ false, routed);
    share(exec, params, in, shared, addend.view());
    dispatcher_.evaluate(exec, routed.to_dispatch(in.x), bound(params), addend.const_view(), y);
  }

  // The same with a state of its own.
  template <ExecutionSpace ExecT, Element T>
  Saved<T, ExecT> forward(ExecT const& exec,
                          std::type_identity_t<Params<T const, ExecT>> const& params,
                          std::type_identity_t<Input<T, ExecT>> const& in,
                          View<T, 2, ExecT> y) const
  {
    check_forward(exec, in, params, y, "moe::Layer::forward");
    auto saved =
        Stages::template make_saved<T>(exec, params.layout(), in.x.extent(0), in.sequences);
    forward(exec, params, in, y, saved);
    return saved;
  }

  // The same where x (T, D) is all there is to say.
  template <ExecutionSpace ExecT, Element T>
  void forward(ExecT const& exec,
               std::type_identity_t<Params<T const, ExecT>> const& params,
               std::type_identity_t<View<T const, 2, ExecT>> x,
               View<T, 2, ExecT> y,
               std::type_identity_t<Saved<T, ExecT>>& saved) const
  {
    forward(exec, params, Input<T, ExecT>{.x = x}, y, saved);
  }
  template <ExecutionSpace ExecT, Element T>
  Saved<T, ExecT> forward(ExecT const& exec,
                          std::type_identity_t<Params<T const, ExecT>> const& params,
                          std::type_identity_t<View<T const, 2, ExecT>> x,
                          View<T, 2, ExecT> y) const
  {
    return forward(exec, params, Input<T, ExecT>{.x = x}, y);
  }
  template <ExecutionSpace ExecT, Element T, class GradsT>
  void backward(ExecT const& exec,
                std::type_identity_t<Params<T const, ExecT>> const& params,
                std::type_identity_t<Saved<T, ExecT>> const& saved,
                std::type_identity_t<View<T const, 2, ExecT>> x,
                std::type_identity_t<View<T const, 2, ExecT>> dy,
                GradsT const& grads,
                View<T, 2, ExecT> dx) const
  {
    backward(exec, params, saved, Input<T, ExecT>{.x = x}, dy, grads, dx);
  }
  template <ExecutionSpace ExecT, Element T>
  void evaluate(ExecT const& exec,
                std::type_identity_t<Params<T const, ExecT>> const& params,
                std::type_identity_t<View<T const, 2, ExecT>> x,
                View<T, 2, ExecT> y) const
  {
    evaluate(exec, params, Input<T, ExecT>{.x = x}, y);
  }
};

}  // namespace moe
