#pragma once
// What a layer asks memory for, before anything runs:
//   auto const plan = moe::plan_memory<moe::BFloat16, float>(layer, sizes, tokens);
//   std::puts(moe::to_text(plan).c_str());
// The layer's own passes run on a space that computes nothing and counts (MemoryMeter), so the plan
// is what they ask for: byte for byte, and no byte is touched. No GPU is needed.
#include <moe/comm/simulated_communicator.hpp>
#include <moe/layer/memory_table.hpp>
#include <moe/layer/metered_layer.hpp>

namespace moe {

struct MemoryPlanOptions {
  MemoryMeterOptions space{};  // what it will run on
  index_t sequences = 1;
  bool mask         = false;  // whether calls have one

  // Where experts are spread over ranks, each with as many tokens: 0, those of the layer's own
  // communicator. Nothing is communicated.
  int ranks = 0, rank = 0;
  index_t rows = -1;  // R that arrive at this rank; -1: the most that can
  index_t sent = -1;  // choices of this rank that have a slot; -1: all
  // The same by expert, instead: (E), and (P, L) in the order of ranks. Bytes of a batch in chunks
  // depend on it; without, they are the most that they can be.
  std::vector<Id> sent_per_expert{}, arrived_per_expert{};
};

namespace detail {

// Runs the layer on meters and writes the plan.
template <Element T, Element G, class LayerT>
class MemoryPlanner {
  using Sizes = typename LayerT::Sizes;
  using Input = LayerInput<T, MemoryMeter>;

 public:
  MemoryPlanner(LayerT const& layer,
                Sizes const& sizes,
                index_t tokens,
                MemoryPlanOptions const& options)
      : layer_{layer}, sizes_{sizes}, tokens_{tokens}, options_{options}, exec_{options.space}
  {
    if constexpr (MeteredLayer<LayerT>::splits) { plan_rows(); }
  }

  [[nodiscard]] MemoryPlan plan()
  {
    auto const params              = layer_.template make_params<T>(exec_, sizes_);
    std::size_t const before_grads = exec_.moment();
    auto grads                     = layer_.template make_params<G>(exec_, sizes_);
    add_params<T>(Lifetime::params, params.const_view());
    add_params<G>(Lifetime::grads, grads.view());
    table_.params = bytes_between(0, before_grads);
    table_.grads  = bytes_between(before_grads, exec_.moment());

    std::size_t const start = exec_.moment();
    auto saved = layer_.template make_saved<T>(exec_, sizes_, tokens_, options_.sequences);
    std::size_t const first = exec_.moment();
    layer_.forward(exec_, params, input(), view<T>(), saved);
    std::size_t const forward = exec_.moment();
    layer_.forward(exec_, params, input(), view<T>(), saved);  // into a state that is not new
    std::size_t const backward = exec_.moment();
    layer_.backward(exec_, params, saved, input(), view<T const>(), grads.view(), view<T>());
    std::size_t const end = exec_.moment();
    table_.host_pool      = options_.space.like == MeteredSpace::host ? pooled(exec_.blocks()) : 0;

    BufferNames names;
    names.add_saved(saved);
    name_saved(start, backward, names);
    index_t const rows = rows_of(saved);
    {
      PassBlocks pass(exec_, forward, backward, /*without*/ backward);
      pass.name(names_of_output(params.const_view(), rows, Pass::forward));
      table_.forward = add_pass(Lifetime::forward, pass, table_.params + table_.grads);
      PassBlocks const into_new(exec_, first, forward, forward);
      table_.forward =
          std::max(table_.forward, into_new.most_in_use() - table_.params - table_.grads);
    }
    {
      PassBlocks pass(exec_, backward, end, /*without*/ end);
      pass.name(names_of_work(saved));
      table_.backward = add_pass(Lifetime::backward, pass, table_.params + table_.grads);
    }
    evaluate(params.const_view(), rows);
    return std::move(table_);
  }

 private:
  template <class V>
  [[nodiscard]] View<V, 2, MemoryMeter> view() const
  {
    return of<V>(tokens_, sizes_.hidden);
  }
  template <class V>
  [[nodiscard]] View<V, 2, MemoryMeter> of(index_t rows, index_t columns) const
  {
    auto const bytes = static_cast<std::size_t>(rows * columns) * sizeof(V);
    return View<V, 2, MemoryMeter>(static_cast<V*>(exec_.address(bytes)), rows, columns);
  }
  [[nodiscard]] Input input() const
  {
    Input in{.x = view<T const>(), .sequences = options_.sequences};
    if (options_.mask) {
      in.mask = View<std::uint8_t const, 1, MemoryMeter>(
          static_cast<std::uint8_t*>(exec_.address(static_cast<std::size_t>(tokens_))), tokens_);
    }
    if constexpr (MeteredLayer<LayerT>::given) {
      in.given_expert = of<Id const>(tokens_, MeteredLayer<LayerT>::choices);
      in.given_weight = of<accumulator_t<T> const>(tokens_, MeteredLayer<LayerT>::choices);
    }
    return in;
  }

  // Rows that travel: in lists by expert, or all to one, which is the most for batches in chunks.
  void plan_rows()
  {
    Check const check{"moe::plan_memory"};
    index_t const ranks = layer_.dispatcher().communicator().size();
    index_t const A     = layer_.choices_of(sizes_, tokens_);
    auto sent = options_.sent_per_expert, arrived = options_.arrived_per_expert;
    if (sent.empty()) {
      check.at_most("sent", options_.sent, "choices of this rank", A);
      sent = {id("sent", options_.sent >= 0 ? options_.sent : A)};
    } else {
      check.equal("sent_per_expert", static_cast<index_t>(sent.size()), "experts", sizes_.experts);
    }
    index_t const here = layer_.here(sizes_).local_experts;
    if (arrived.empty()) {
      constexpr index_t K = MeteredLayer<LayerT>::choices;
      index_t const most  = MeteredLayer<LayerT>::given || K == 0 || here >= K ? A : A / K * here;
      arrived             = {id("rows", options_.rows >= 0 ? options_.rows : ranks * most)};
    } else {
      check.equal("arrived_per_expert",
                  static_cast<index_t>(arrived.size()),
                  "ranks x experts here",
                  ranks * here);
    }
    if (here == 0) { arrived.clear(); }
    exec_.plan_rows(std::move(sent), std::move(arrived));
  }
  [[nodiscard]] static Id id(char const* field, index_t n)
  {
    check_ids(Check{"moe::plan_memory"}, field, n);
    return static_cast<Id>(n);
  }

  template <class V, class ParamsT>
  void add_params(Lifetime lifetime, ParamsT const& params)
  {
    auto const add = [&](char const* kind) {
      return [this, lifetime, kind](char const* name, auto const& v, auto const&) {
        Carver<V, MemoryMeter> carver;  // rounds up as it does where it lays them out
        carver.take(v.size());
        auto const bytes = static_cast<std::size_t>(carver.used()) * sizeof(V);
        if (bytes > 0) {
          table_.buffers.push_back({lifetime, joined({kind, name}), bytes, bytes, 1});
        }
      };
    };
    params.gate.for_each(add(""));
    params.experts.for_each(add(""));
    if constexpr (MeteredLayer<LayerT>::shared) { params.shared.for_each(add("shared expert: ")); }
  }
  [[nodiscard]] std::size_t bytes_between(std::size_t from, std::size_t to) const
  {
    std::size_t sum = 0;
    for (auto const& b : exec_.blocks()) {
      sum += from <= b.made && b.made < to ? b.bytes : 0;
    }
    return sum;
  }

  // Blocks made since `from` that live at the end of the forward pass.
  void name_saved(std::size_t from, std::size_t backward, BufferNames const& names)
  {
    bool gate = true;  // its own comes first
    for (auto const& b : exec_.blocks()) {
      if (b.made < from || b.made >= backward || b.returned != MeteredBlock::held) { continue; }
      auto name = names.of(b);
      gate      = gate && name.empty();
      if (name.empty()) { name = gate ? "gate" : "experts"; }
      table_.saved += b.bytes;
      table_.add(Lifetime::saved, name, b.bytes, b.bytes);
    }
  }
  template <class SavedT>
  [[nodiscard]] index_t rows_of(SavedT const& saved) const
  {
    if constexpr (requires { saved.experts.trip.rows(); }) {
      if (layer_.dispatcher().communicator().size() > 1) { return saved.experts.trip.rows(); }
    }
    return saved.plan.rows();
  }

  // The names of what a pass makes, in order.
  template <class ParamsT>
  [[nodiscard]] NamedBlocks names_of_output(ParamsT const& params, index_t rows, Pass pass) const
  {
    MemoryMeter const probe(options_.space);
    auto const output = layer_.template output<T>(probe, params, rows, pass);
    BufferNames names;
    names.add_state(output.scratch);
    names.add(output.out, "outputs of the experts");
    return {probe, names, "experts"};
  }
  template <class SavedT>
  [[nodiscard]] NamedBlocks names_of_work(SavedT const& saved) const
  {
    MemoryMeter const probe(options_.space);
    auto const work = layer_.template work<T>(probe, saved, input());
    BufferNames names;
    names.add_work(work);
    return {probe, names, "gate and experts"};
  }

  template <class ParamsT>
  void evaluate(ParamsT const& params, index_t rows)
  {
    MemoryMeter const probe(options_.space);
    auto const routed =
        layer_.template routed<T>(probe, layer_.here(sizes_), tokens_, options_.sequences);
    BufferNames names;
    names.add_routed(routed);

    std::size_t const start = exec_.moment(), before = exec_.bytes_in_use();
    layer_.evaluate(exec_, params, input(), view<T>());
    PassBlocks pass(exec_, start, exec_.moment(), exec_.moment());
    pass.name({probe, names, "gate"});
    pass.name(names_of_output(params, rows, Pass::infer));
    table_.evaluate = add_pass(Lifetime::evaluate, pass, before);
  }

  // Adds a pass's blocks; returns the most in use during it, beside `beside`.
  std::size_t add_pass(Lifetime lifetime, PassBlocks& pass, std::size_t beside)
  {
    pass.name_rest(MeteredLayer<LayerT>::splits ? "transport" : "addend of y");
    pass.add_to(table_, lifetime);
    return pass.most_in_use() - beside;
  }

  MeteredLayer<LayerT> layer_;
  Sizes sizes_;
  index_t tokens_;
  MemoryPlanOptions options_;
  MemoryMeter exec_;
  MemoryPlan table_;
};

template <Element T, Element G, class LayerT>
MemoryPlan plan_memory(LayerT const& layer,
                       typename LayerT::Sizes const& sizes,
                       index_t tokens,
                       MemoryPlanOptions const& options)
{
  return MemoryPlanner<T, G, LayerT>(layer, sizes, tokens, options).plan();
}

}  // namespace detail

// For elements T and gradients of G: what make_params, make_saved, forward, backward and evaluate
// ask for, each buffer, and the most that is in use during each pass. Sums over ranks after a
// step (all_reduce_gradients, gradient_norm) are not in it, nor what communicators own themselves,
// nor the workspace of cuBLAS. Of SerialDispatcher on Cuda it is a bound: scratch for one expert
// that has all rows.
template <Element T,
          Element G = T,
          class RouterT,
          class CapacityT,
          class DispatcherT,
          class ExpertT,
          class... ExtraTs>
[[nodiscard]] MemoryPlan plan_memory(
    Layer<RouterT, CapacityT, DispatcherT, ExpertT, ExtraTs...> const& layer,
    std::type_identity_t<
        typename Layer<RouterT, CapacityT, DispatcherT, ExpertT, ExtraTs...>::Sizes> const& sizes,
    index_t tokens,
    MemoryPlanOptions const& options = {})
{
  static_assert(detail::PlannableDispatcher<DispatcherT>::value,
                "moe::plan_memory: of dispatchers over ranks it knows AllToAllDispatcher with "
                "FlatExchange or AllGatherExchange, and EachChoice");
  if constexpr (SplitsExperts<DispatcherT>) {
    detail::MeteredLayer const with(layer);
    auto const& comm = with.dispatcher().communicator();
    SimulatedCommunicator const ranks(Cluster{},
                                      options.ranks > 0 ? options.ranks : comm.size(),
                                      options.ranks > 0 ? options.rank : comm.rank());
    return detail::plan_memory<T, G>(
        Layer{layer, with.dispatcher().over(ranks)}, sizes, tokens, options);
  } else {
    return detail::plan_memory<T, G>(layer, sizes, tokens, options);
  }
}

}  // namespace moe
