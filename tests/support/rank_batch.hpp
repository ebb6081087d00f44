#pragma once
// One rank's part of a batch and of a layer's parameters, and what the ranks' passes give together.
#include <moe/expert_parallel.hpp>

#include "support/layer_batch.hpp"

namespace moe::test {

// A rank's part of the tokens.
struct TokenRange {
  index_t first, count;
};

template <class T>
Batch<T> part_of(Batch<T> const& whole, TokenRange range)
{
  std::vector<index_t> rows(static_cast<std::size_t>(range.count));
  for (index_t i = 0; i < range.count; ++i) {
    rows[static_cast<std::size_t>(i)] = range.first + i;
  }
  Batch<T> part    = whole.rows(rows);
  part.first_token = whole.first_token + range.first;
  if (!whole.mask.empty()) {
    auto const from = whole.mask.begin() + range.first;
    part.mask.assign(from, from + range.count);
  }
  return part;
}

// What one rank's passes wrote; the experts' gradients expert by expert (values_by_expert).
template <class T>
struct RankPass {
  using S = accumulator_t<T>;
  std::vector<T> y, evaluated, dx;
  std::vector<S> gate_grads, expert_grads, losses;  // the gate's over all ranks
  LoadStatistics loads;

  friend bool operator==(RankPass const& a, RankPass const& b)
  {
    return same_bits(a.y, b.y) && same_bits(a.evaluated, b.evaluated) && same_bits(a.dx, b.dx) &&
           same_bits(a.gate_grads, b.gate_grads) && same_bits(a.expert_grads, b.expert_grads) &&
           same_bits(a.losses, b.losses) && a.loads.dropped == b.loads.dropped;
  }
};

// The parameters of `all`, where `to` has the experts from `first` on.
template <class FromT, class ToT>
void copy_params(FromT const& all, ToT const& to, index_t first)
{
  auto const part = [&](auto const& from, auto const& into, index_t from_expert) {
    index_t const each = from.extent(0) == 0 ? 0 : from.size() / from.extent(0);
    std::copy_n(from.data_handle() + from_expert * each, into.size(), into.data_handle());
  };
  part(all.gate.w, to.gate.w, 0);
  part(all.experts.w_in, to.experts.w_in, first);
  part(all.experts.w_out, to.experts.w_out, first);
}

template <class ViewT>
auto view_values(ViewT const& v)
{
  using T = std::remove_const_t<typename ViewT::value_type>;
  return std::vector<T>(v.data_handle(), v.data_handle() + v.size());
}

// The experts' values one after the other, expert by expert, so that ranks' parts concatenate.
template <class ParamsT>
auto values_by_expert(ParamsT const& grads)
{
  auto const& in  = grads.experts.w_in;
  auto const& out = grads.experts.w_out;
  std::vector<std::remove_const_t<typename std::decay_t<decltype(in)>::value_type>> all;
  for (index_t e = 0; e < in.extent(0); ++e) {
    for (auto const* v : {&in, &out}) {
      index_t const each = v->size() / v->extent(0);
      all.insert(all.end(), v->data_handle() + e * each, v->data_handle() + (e + 1) * each);
    }
  }
  return all;
}

// Forward, evaluate and backward of one rank on its part of `whole`. One rank with all experts adds
// to zeros, another overwrites.
template <class T, class LayerT>
RankPass<T> run_rank(LayerT const& layer,
                     Host const& exec,
                     Batch<T> const& whole,
                     TokenRange range,
                     ExpertRange experts)
{
  using S               = accumulator_t<T>;
  Batch<T> const part   = part_of(whole, range);
  auto const [D, count] = std::pair{whole.sizes.hidden, range.count};
  auto params           = layer.template make_params<T>(exec, whole.sizes);
  auto grads            = layer.template make_params<S>(exec, whole.sizes);
  copy_params(whole.param_views(layer), params.view(), experts.first);
  RankPass<T> out;
  auto const nan      = to_element<T>(std::numeric_limits<double>::quiet_NaN());
  auto const elements = static_cast<std::size_t>(count * D);
  out.y.assign(elements, nan);
  out.evaluated.assign(elements, nan);
  out.dx.assign(elements, nan);
  auto const view = [&](std::vector<T>& v) { return View<T, 2, Host>(v.data(), count, D); };
  auto saved      = layer.template make_saved<T>(exec, whole.sizes, count);
  layer.evaluate(exec, params, part.input(), view(out.evaluated));
  layer.forward(exec, params, part.input(), view(out.y), saved);
  bool const alone = experts.count == whole.sizes.experts;
  if (!alone) { fill_values(grads.view(), std::numeric_limits<double>::quiet_NaN()); }
  layer.backward(exec,
                 params,
                 saved,
                 part.input(),
                 part.dy_view(),
                 overwrite(grads.view(), !alone),
                 view(out.dx));
  layer.all_reduce_gradients(exec, grads.view());
  auto const losses = saved.losses(exec);
  out.losses.assign(losses.begin(), losses.end());
  out.loads        = saved.statistics(exec);
  out.gate_grads   = view_values(grads.view().gate.w);
  out.expert_grads = values_by_expert(grads.view());
  return out;
}

}  // namespace moe::test
