#pragma once
// Two micro-batches of any layer over ranks that are threads, each rank with its part of the
// tokens, in any space; and what the ranks' outputs are together.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <vector>

#include <moe/expert_parallel.hpp>

#include "support/space.hpp"

namespace moe::test {

// Of one rank, or of all together: y and dx row after row, a list for every view of gradients.
template <class T>
struct RankStep {
  using S = accumulator_t<T>;
  std::vector<T> y, dx;
  std::vector<S> losses;
  std::vector<std::vector<S>> beside, experts;  // of gate and shared expert; of the experts
  double norm = 0;                              // of the gradient of all ranks
};

template <class V>
bool same_bytes(std::vector<V> const& a, std::vector<V> const& b)
{
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(V)) == 0);
}
template <class V>
bool same_bytes(std::vector<std::vector<V>> const& a, std::vector<std::vector<V>> const& b)
{
  bool same = a.size() == b.size();
  for (std::size_t i = 0; same && i < a.size(); ++i) {
    same = same_bytes(a[i], b[i]);
  }
  return same;
}

// A batch by its numbers; sequences are `length` tokens long.
struct StepBatch {
  index_t tokens, length, hidden;
  std::vector<double> x, dy;  // (T, D)
  std::vector<std::uint8_t> mask{};
  bool integers = false;  // x, dy and all parameters

  StepBatch(index_t T, index_t sequence, index_t D)
      : tokens{T},
        length{sequence},
        hidden{D},
        x{normal_numbers(T * D, 1)},
        dy{normal_numbers(T * D, 2, 0.5)}
  {
  }
};

template <class T>
void append(std::vector<T>& to, std::vector<T> const& more)
{
  to.insert(to.end(), more.begin(), more.end());
}

// Forward and backward over the tokens [first, first + count) twice, the second time over dx in
// place of x; reduce(layer, gradients) ends the step. Of all tokens both are added to zeros, of a
// part the first overwrites.
template <class T, class LayerT, class ExecT, class Reduce>
RankStep<T> run_step(LayerT const& layer,
                     ExecT const& exec,
                     typename LayerT::Sizes const& sizes,
                     StepBatch const& batch,
                     index_t first,
                     index_t count,
                     Reduce const& reduce)
{
  using S         = accumulator_t<T>;
  index_t const D = batch.hidden;
  auto params     = layer.template make_params<T>(exec, sizes);
  auto grads      = layer.template make_params<S>(exec, sizes);
  initialize(exec, params.view(), 42);
  auto const rounded = [&](std::vector<double> v) {
    for (double& value : v) {
      value = batch.integers ? std::round(4 * value) : value;
    }
    return v;
  };
  if (batch.integers) {
    auto const flat   = get_numbers(exec, params.const_flat());
    auto const values = put<T>(exec, rounded(flat), params.flat().size());
    exec.copy(params.flat().data_handle(), values.const_view().data_handle(), values.bytes());
  }
  auto const part = [&](auto const& all, index_t each) {
    return std::vector(all.begin() + first * each, all.begin() + (first + count) * each);
  };
  auto x        = put<T>(exec, rounded(part(batch.x, D)), count, D);
  auto const dy = put<T>(exec, rounded(part(batch.dy, D)), count, D);
  Tensor<T, 2, ExecT> y(exec, count, D), dx(exec, count, D);
  index_t const sequences = std::max<index_t>(1, count / batch.length);
  LayerInput<T, ExecT> in{.x = x.const_view(), .sequences = sequences};
  in.first_token = first;
  Tensor<std::uint8_t, 1, ExecT> mask(exec, batch.mask.empty() ? 0 : count);
  if (!batch.mask.empty()) {
    auto const mine = part(batch.mask, 1);
    exec.copy_from_host(mask.view().data_handle(), mine.data(), mine.size());
    in.mask = mask.const_view();
  }
  RankStep<T> out;
  auto saved             = layer.template make_saved<T>(exec, sizes, count, sequences);
  bool const part_of_all = count < batch.tokens;
  if (part_of_all) {
    std::vector<double> const nan(static_cast<std::size_t>(grads.flat().size()), NAN);
    auto const all = put<S>(exec, nan, grads.flat().size());
    exec.copy(grads.flat().data_handle(), all.const_view().data_handle(), all.bytes());
  }
  for (int micro = 0; micro < 2; ++micro) {
    auto const to = overwrite(grads.view(), part_of_all && micro == 0);
    layer.forward(exec, params, in, y.view(), saved);
    layer.backward(exec, params, saved, in, dy.const_view(), to, dx.view());
    append(out.y, get(exec, y.const_view()));
    append(out.dx, get(exec, dx.const_view()));
    for (S const loss : saved.losses(exec)) {
      out.losses.push_back(loss);
    }
    exec.copy(x.view().data_handle(), dx.const_view().data_handle(), x.bytes());
  }
  reduce(layer, grads.view());
  out.norm        = layer.gradient_norm(exec, grads.view());
  auto const keep = [&](auto& lists) {
    return [&](char const*, auto const& view, auto const&) { lists.push_back(get(exec, view)); };
  };
  grads.view().gate.for_each(keep(out.beside));
  if constexpr (requires { grads.view().shared.for_each(keep(out.beside)); }) {
    grads.view().shared.for_each(keep(out.beside));
  }
  grads.view().experts.for_each(keep(out.experts));
  return out;
}

// Runs `program(communicator)` at `ranks` threads.
template <class T>
std::vector<RankStep<T>> at_ranks(
    int ranks, std::function<RankStep<T>(ThreadCommunicator const&)> const& program)
{
  std::vector<RankStep<T>> steps(static_cast<std::size_t>(ranks));
  ThreadWorld(ranks, {.deadline = std::chrono::seconds(60)})
      .run([&](ThreadCommunicator const& comm) {
        steps[static_cast<std::size_t>(comm.rank())] = program(comm);
      });
  return steps;
}

// What ranks with consecutive parts of the batch and of the experts have together. Rows of the two
// micro-batches follow one another, as they do at one rank.
template <class T>
RankStep<T> together(std::vector<RankStep<T>> const& steps)
{
  RankStep<T> all;
  all.losses = steps[0].losses;
  all.beside = steps[0].beside;
  all.norm   = steps[0].norm;
  all.experts.resize(steps[0].experts.size());
  for (std::size_t micro = 0; micro < 2; ++micro) {
    for (auto const& s : steps) {
      auto const half = [&](std::vector<T> const& v) {
        auto const n = static_cast<std::ptrdiff_t>(v.size() / 2);
        auto const i = static_cast<std::ptrdiff_t>(micro);
        return std::vector<T>(v.begin() + i * n, v.begin() + (i + 1) * n);
      };
      append(all.y, half(s.y));
      append(all.dx, half(s.dx));
    }
  }
  for (auto const& s : steps) {
    for (std::size_t v = 0; v < all.experts.size(); ++v) {
      append(all.experts[v], s.experts[v]);
    }
  }
  return all;
}

// First tokens of the ranks' parts, and the end. Parts are whole blocks, but the last: even ones,
// or some empty and some larger.
inline std::vector<index_t> first_tokens(index_t tokens, index_t block, int ranks, bool even)
{
  index_t const blocks = (tokens + block - 1) / block;
  std::vector<index_t> first{0};
  for (int r = 1; r < ranks; ++r) {
    index_t const b = even ? blocks * r / ranks : r / 2;
    first.push_back(std::min(tokens, b * block));
  }
  first.push_back(tokens);
  return first;
}

}  // namespace moe::test
