#pragma once
// The primitives of MemoryMeter: the scratch of a Host's or a Cuda's, and nothing else.
#include <concepts>
#include <type_traits>

#include <moe/core/element.hpp>
#include <moe/core/tensor.hpp>
#include <moe/exec/gemm.hpp>
#include <moe/exec/host/sort.hpp>
#include <moe/exec/memory_meter.hpp>
#include <moe/exec/split_shape.hpp>
#include <moe/expert/expert_rows.hpp>
#include <moe/plan/fill_plan.hpp>

namespace moe {
namespace detail {

// As in exec/cuda/sort.cuh and sum_rows.cuh; sort_bytes.cuh holds them equal.
inline constexpr index_t metered_histogram_keys = 4096, metered_histogram_bins = 8192;
inline constexpr index_t metered_sum_rows = 256;
// As in plan/cuda/fill_plan.cuh.
inline constexpr index_t metered_plan_part = 2048, metered_plan_takers = 1026;

using MeteredScratch = Tensor<unsigned char, 1, MemoryMeter>;

inline index_t parts_of(index_t n, index_t each)
{
  return (n + each - 1) / each;
}

// No device wants more for CUB's radix sort by 8 bits a pass: a second copy of keys and values,
// counters for each tile of 1,024 pairs and for each pass.
inline std::size_t most_sort_bytes(int bits, index_t n, std::size_t key_bytes)
{
  auto const pairs  = static_cast<std::size_t>(n);
  auto const passes = static_cast<std::size_t>(bits / 8 + 1);
  return pairs * (key_bytes + sizeof(Id)) + (pairs / 1024 + 1) * 1024 + passes * 8192 + 8 * 256;
}

// Rows that a BLAS reads through no index. On Cuda it runs one expert at a time (RowGroups'
// known_begin), whose rows nobody knows here: all of them.
template <class T>
[[nodiscard]] Tensor<T, 2, MemoryMeter> gather_for_blas(MemoryMeter const& exec,
                                                        RowGroups<MemoryMeter> const& groups,
                                                        IndexedRows<T, MemoryMeter> const& rows)
{
  return Tensor<T, 2, MemoryMeter>(
      exec, rows.index.data_handle() != nullptr ? groups.rows : 0, rows.columns());
}

// Whether a BLAS takes these element types and this call.
template <class C, class A, class... Others>
bool blas_takes(MemoryMeter const& exec, RowGroups<MemoryMeter> const& groups)
{
  if (exec.products() != Products::blas) { return false; }
  constexpr bool alike = (std::same_as<A, Others> && ...);
  if (exec.like() == MeteredSpace::host) {
    return alike && std::same_as<A, C> && (std::same_as<A, float> || std::same_as<A, double>);
  }
  return alike && (std::same_as<A, C> || std::same_as<C, float>) && groups.known_begin >= 0;
}

}  // namespace detail

template <std::unsigned_integral Key>
void sort_pairs(MemoryMeter const& exec,
                int bits,
                View<Key, 1, MemoryMeter> key,
                View<Id, 1, MemoryMeter>,
                View<Key, 1, MemoryMeter>,
                View<Id, 1, MemoryMeter>)
{
  index_t const n = key.extent(0);
  if (n == 0) { return; }
  std::size_t bytes = 0;
  if (exec.like() == MeteredSpace::host) {
    auto const counters = detail::sort_counters(n, bits, exec.threads());
    bytes               = sizeof(index_t) * static_cast<std::size_t>(counters[0] * counters[1]);
  } else if (exec.sort_bytes() != nullptr) {
    bytes = exec.sort_bytes()(bits, n, sizeof(Key));
  } else {
    bytes = detail::most_sort_bytes(bits, n, sizeof(Key));
  }
  detail::MeteredScratch const scratch(exec, static_cast<index_t>(bytes));
}

inline void histogram(MemoryMeter const& exec,
                      View<Id const, 1, MemoryMeter> key,
                      View<Id, 1, MemoryMeter> count)
{
  index_t const n = key.extent(0), bins = count.extent(0);
  if (exec.like() == MeteredSpace::host) {
    Tensor<Id, 2, MemoryMeter> const partial(exec, detail::sort_parts(n, exec.threads()), bins);
    return;
  }
  index_t const most = detail::metered_histogram_bins;
  for (index_t first = 0; first < bins && n > 0; first += most) {
    Tensor<Id, 2, MemoryMeter> const partial(exec,
                                             detail::parts_of(n, detail::metered_histogram_keys),
                                             bins - first < most ? bins - first : most);
  }
}

namespace detail {

// What each part of the assignments has for each taker, and their sums.
template <class TakenT>
void fill_plan(MemoryMeter const& exec, SlotsToFill<MemoryMeter> const& to, TakenT const& taken)
{
  if (exec.like() == MeteredSpace::host || to.takers() > metered_plan_takers) {
    return fill_plan_by_sort(exec, to, taken);
  }
  index_t const parts = parts_of(to.assignments.count, metered_plan_part);
  if (parts <= 1) { return; }
  Tensor<Id, 2, MemoryMeter> const before(exec, to.takers(), parts);
  Tensor<Id, 1, MemoryMeter> const total(exec, to.takers());
}

}  // namespace detail

// Without scratch.
template <class... Args>
[[nodiscard]] bool count_bad_input_at_once(MemoryMeter const& exec, Args const&...)
{
  return exec.like() == MeteredSpace::cuda;
}

template <class T, class G>
void sum_rows(MemoryMeter const& exec,
              View<T, 2, MemoryMeter> x,
              Result,
              View<G, 1, MemoryMeter> out)
{
  using S = accumulator_t<std::remove_const_t<T>>;
  if (exec.like() == MeteredSpace::cuda && out.extent(0) > 0) {
    Tensor<S, 2, MemoryMeter> const partial(
        exec, detail::parts_of(x.extent(0), detail::metered_sum_rows), out.extent(0));
  }
}

template <class T, class S, class G>
void grouped_sum_rows(MemoryMeter const&,
                      RowGroups<MemoryMeter> const&,
                      IndexedRows<T, MemoryMeter> const&,
                      View<S const, 1, MemoryMeter>,
                      View<G, 2, MemoryMeter>,
                      Result = Result::add)
{
}

template <class F>
void for_each_grouped_row(MemoryMeter const&, RowGroups<MemoryMeter> const&, F const&)
{
}

template <class Call>
void for_each_expert(MemoryMeter const& exec,
                     RowGroups<MemoryMeter> const& groups,
                     Call const& call)
{
  bool const known = exec.like() == MeteredSpace::cuda && exec.products() != Products::own;
  for (Id e = groups.first; e < groups.last; ++e) {
    call(known ? groups.only(e, index_t{0}, groups.rows) : groups.only(e, e + 1));
  }
}

// cuBLAS multiplies no float with another type: an operand is split in three
// (exec/split_shape.hpp), or both are copied in floats, and a narrower result is rounded from
// floats.
template <class A, class B, class C>
void gemm(MemoryMeter const& exec,
          Transpose ta,
          View<A, 2, MemoryMeter> a,
          Transpose,
          View<B, 2, MemoryMeter> b,
          Result,
          View<C, 2, MemoryMeter> c)
{
  using TA        = std::remove_const_t<A>;
  using TB        = std::remove_const_t<B>;
  index_t const k = a.extent(ta == Transpose::no ? 1 : 0);
  if (exec.like() == MeteredSpace::host || exec.products() == Products::own || k == 0) { return; }
  if constexpr (!(std::same_as<TA, TB> && (std::same_as<C, TA> || std::same_as<C, float>))) {
    constexpr bool narrow = !std::same_as<C, float>;
    constexpr bool of_a   = std::same_as<TA, float> && std::same_as<TB, BFloat16>;
    constexpr bool of_b   = std::same_as<TA, BFloat16> && std::same_as<TB, float>;
    if constexpr (of_a || of_b) {
      index_t const m = c.extent(0), n = c.extent(1);
      detail::SplitShape const shape(of_a ? m : n, of_a ? n : m, k);
      index_t const rounded = narrow && shape.along_k ? c.size() : 0;
      Tensor<BFloat16, 1, MemoryMeter> const parts(exec, shape.parts()),
          copies(exec, shape.copies());
      Tensor<float, 1, MemoryMeter> const results(exec, shape.results() + rounded);
    } else {
      Tensor<float, 2, MemoryMeter> const product(exec, narrow ? c.extent(0) : 0, c.extent(1));
      auto const copy = [&](auto const& x, index_t each) {
        return detail::MeteredScratch(exec, x.size() * each);
      };
      auto const a_copy = copy(a, std::same_as<TA, float> ? 0 : sizeof(float));
      auto const b_copy = copy(b, std::same_as<TB, float> ? 0 : sizeof(float));
    }
  }
}

template <class A, class W, class C, class Bias = std::remove_const_t<W> const>
void grouped_gemm_rows(MemoryMeter const& exec,
                       RowGroups<MemoryMeter> const& groups,
                       IndexedRows<A, MemoryMeter> a,
                       Transpose,
                       View<W, 3, MemoryMeter>,
                       View<Bias, 2, MemoryMeter>,
                       View<C, 2, MemoryMeter> c)
{
  bool const on_cuda = exec.like() == MeteredSpace::cuda;
  if (on_cuda && (groups.experts() <= 0 || groups.rows == 0 || c.extent(1) == 0)) { return; }
  using TW         = std::remove_const_t<W>;
  bool const takes = on_cuda
                         ? detail::blas_takes<C, A, TW>(exec, groups)
                         : detail::blas_takes<C, A, TW, std::remove_const_t<Bias>>(exec, groups);
  if (takes) { auto const gathered = detail::gather_for_blas(exec, groups, a); }
}

template <class A, class B, class G>
void grouped_gemm_weights(MemoryMeter const& exec,
                          RowGroups<MemoryMeter> const& groups,
                          IndexedRows<A, MemoryMeter> a,
                          IndexedRows<B, MemoryMeter> b,
                          View<G, 3, MemoryMeter> dw,
                          Result = Result::add)
{
  if (exec.like() == MeteredSpace::cuda &&
      (groups.experts() <= 0 || groups.rows == 0 || dw.size() == 0)) {
    return;
  }
  if (detail::blas_takes<G, A, B>(exec, groups)) {
    auto const of_a = detail::gather_for_blas(exec, groups, a);
    auto const of_b = detail::gather_for_blas(exec, groups, b);
  }
}

}  // namespace moe
