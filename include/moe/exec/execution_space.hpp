#pragma once
// Contract: where and in what order work runs. A new backend is one folder of models of this.
#include <concepts>
#include <cstddef>

#include <moe/core/team.hpp>
#include <moe/exec/phase.hpp>

namespace moe {

// Whose dense products a space uses. The library's own give the same bits for any number of
// threads, any batch neighbours and any schedule; a BLAS (cuBLAS) promises none of it. `automatic`:
// on Host a BLAS when one was found; on Cuda cuBLAS for dense products and for SerialDispatcher's
// experts.
enum class Products { automatic, own, blas };

namespace detail {
struct RowArchetype {  // any functor the library hands to for_each_row
  template <Team G>
  MOE_HOST_DEVICE void operator()(G, index_t) const
  {
  }
};

// A list of numbers as rows: as many for a team as a warp has lanes.
inline constexpr index_t numbers_of_row = 32;

[[nodiscard]] inline index_t rows_of_numbers(index_t n)
{
  return (n + numbers_of_row - 1) / numbers_of_row;
}

template <class F>
struct NumbersRow {
  index_t n;
  F f;
  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t row) const
  {
    index_t const from = row * numbers_of_row;
    index_t const end  = from + numbers_of_row < n ? from + numbers_of_row : n;
    for (index_t i = from + team.lane(); i < end; i += team.size()) {
      f(i);
    }
  }
};

// f(i) for every number in [0, n), by all lanes of a team.
template <class ExecT, class F>
void for_each_number(ExecT const& exec, index_t n, F const& f)
{
  exec.for_each_row(rows_of_numbers(n), NumbersRow<F>{n, f});
}
}  // namespace detail

template <class X>
concept HasTeam = Team<typename X::team_type>;

// for_each_row(n, f): f(team, row) for every row in [0, n), rows in any order.
template <class X>
concept HasForEachRow =
    requires(X const x, index_t n) { x.for_each_row(n, detail::RowArchetype{}); };

// Memory in stream order; allocate throws OutOfMemoryError, none() is a handle that owns nothing
// and can only be assigned to.
template <class X>
concept AllocatesInOrder = requires(X const x, void* p, std::size_t n) {
  { x.allocate(n) } -> std::same_as<void*>;
  { x.deallocate(p, n) } noexcept;
  { X::none() } -> std::same_as<X>;
};

// Bytes between the program's memory and the space's, and within the space, in stream order.
// copy_to_host waits for its result; on a GPU that is a synchronisation with the host.
template <class X>
concept HasCopies = requires(X const x, void* to, void const* from, std::size_t n) {
  x.copy_from_host(to, from, n);
  x.copy_to_host(to, from, n);
  x.copy(to, from, n);
  x.zero(to, n);
};

// Lanes order work on several streams by events: lane(i) works beside this handle, wait(m) makes
// what follows here start after m. On Host they are nothing.
template <class X>
concept HasLaneOrder = requires(X const x) {
  { x.lane(0) } -> std::same_as<X>;
  x.wait(x.mark());
};

// Called at every public entry, before any work; throws when something that is not the call's fault
// keeps the space from working, such as an error that an earlier call of the program left behind.
template <class X>
concept HasEnter = requires(X const x, char const* operation) { x.enter(operation); };

// phase(p) is a scope that a profiler times, count_sent(n) tells it of n bytes to other ranks. Both
// are a look at a pointer where the handle has no profiler. A space may have sent_there(), a number
// to which its work adds bytes that only it knows; null where nobody counts.
template <class X>
concept HasPhases = requires(X const x, Phase p, std::size_t n) {
  { x.phase(p) } -> std::destructible;
  { x.count_sent(n) } noexcept;
};

// Copyable and cheap: a handle to state that is made once, the only carrier of stream and memory,
// and the first argument of everything that works. Beside these members a space has, found by
// overload on the handle, the primitives
//   sort_pairs, histogram            stable sort of keys with 32-bit values   exec/host/sort.hpp
//   sum_rows, grouped_sum_rows       sums over rows in fixed order        exec/host/sum_rows.hpp
//   for_each_grouped_row             a functor over the experts' rows exec/host/grouped_rows.hpp
//   gemm                             one dense product                    exec/host/gemm.hpp
//   grouped_gemm_rows, _weights      a product per expert, ragged rows exec/host/grouped_gemm.hpp
// exec/host/primitives.hpp includes all of them.
// Optional: with_own_products(), the same handle with the library's own products, for the layer's
// ReproducibleReduction; without it the space's products are taken for such. counts_slots,
// routes_by_logits, counts_bad_input: it has a fill_plan() (plan/fill_plan.hpp), a
// route_by_logits() (route/route.hpp), a count_bad_input_at_once() (route/load_statistics.hpp).
// activates_products(): its up_activated() may keep no pre-activations (expert/ffn_products.hpp).
template <class X>
concept ExecutionSpace =
    std::copyable<X> && HasTeam<X> && HasForEachRow<X> && AllocatesInOrder<X> && HasCopies<X> &&
    HasLaneOrder<X> && HasEnter<X> && HasPhases<X> && requires(X const x) { x.synchronize(); };

}  // namespace moe
