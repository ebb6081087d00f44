// Near misses of the execution space and of the team: each lacks one thing of the contract.
#include <moe/exec/host.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <memory>
#include <vector>

using moe::ExecutionSpace, moe::Id, moe::index_t, moe::Team;

namespace {

// A whole model that is no Host; the near misses hide or replace one member. Those with another
// handle type in a signature say `Self`.
template <class Self>
struct WholeSpace {
  using team_type = moe::SerialTeam;
  template <class F>
  void for_each_row(index_t n, F const& f) const
  {
    for (index_t i = 0; i < n; ++i) {
      f(moe::SerialTeam{}, i);
    }
  }
  [[nodiscard]] void* allocate(std::size_t) const { return nullptr; }
  void deallocate(void*, std::size_t) const noexcept {}
  static Self none() { return Self{}; }
  void copy_from_host(void*, void const*, std::size_t) const {}
  void copy_to_host(void*, void const*, std::size_t) const {}
  void copy(void*, void const*, std::size_t) const {}
  void zero(void*, std::size_t) const {}
  [[nodiscard]] Self lane(int) const { return Self{}; }
  [[nodiscard]] int mark() const { return 0; }
  void wait(int) const {}
  void synchronize() const {}
  void enter(char const*) const {}
  [[nodiscard]] int phase(moe::Phase) const { return 0; }
  void count_sent(std::size_t) const noexcept {}
};

struct Whole : WholeSpace<Whole> {};
static_assert(ExecutionSpace<Whole> && ExecutionSpace<moe::Host>);

struct NoCopy : WholeSpace<NoCopy> {
  std::unique_ptr<int> state;  // a handle is handed on by value
};
static_assert(!std::copyable<NoCopy> && !ExecutionSpace<NoCopy>);

struct NoTeam : WholeSpace<NoTeam> {
  struct team_type {};
};
static_assert(!moe::HasTeam<NoTeam> && !ExecutionSpace<NoTeam>);

struct NoRows : WholeSpace<NoRows> {
  void for_each_row(index_t) const {}
};
static_assert(!moe::HasForEachRow<NoRows> && !ExecutionSpace<NoRows>);

struct RowsNotConst : WholeSpace<RowsNotConst> {
  template <class F>
  void for_each_row(index_t, F const&)
  {
  }
};
static_assert(!moe::HasForEachRow<RowsNotConst> && !ExecutionSpace<RowsNotConst>);

struct TypedMemory : WholeSpace<TypedMemory> {
  [[nodiscard]] float* allocate(std::size_t) const { return nullptr; }
};
static_assert(!moe::AllocatesInOrder<TypedMemory> && !ExecutionSpace<TypedMemory>);

struct FreeingMayThrow : WholeSpace<FreeingMayThrow> {
  void deallocate(void*, std::size_t) const {}  // destructors call it
};
static_assert(!moe::AllocatesInOrder<FreeingMayThrow> && !ExecutionSpace<FreeingMayThrow>);

struct NoneOfAnotherType : WholeSpace<NoneOfAnotherType> {
  static Whole none() { return {}; }
};
static_assert(!moe::AllocatesInOrder<NoneOfAnotherType> && !ExecutionSpace<NoneOfAnotherType>);

struct NoCopyToHost : WholeSpace<NoCopyToHost> {
  void copy_to_host() const {}
};
static_assert(!moe::HasCopies<NoCopyToHost> && !ExecutionSpace<NoCopyToHost>);

struct NoZero : WholeSpace<NoZero> {
  void zero(void*) const {}
};
static_assert(!moe::HasCopies<NoZero> && !ExecutionSpace<NoZero>);

struct LaneOfAnotherType : WholeSpace<LaneOfAnotherType> {
  [[nodiscard]] Whole lane(int) const { return {}; }
};
static_assert(!moe::HasLaneOrder<LaneOfAnotherType> && !ExecutionSpace<LaneOfAnotherType>);

struct CannotWait : WholeSpace<CannotWait> {
  void wait(void*) const {}  // not for what mark() gives
};
static_assert(!moe::HasLaneOrder<CannotWait> && !ExecutionSpace<CannotWait>);

struct NoSynchronize : WholeSpace<NoSynchronize> {
  void synchronize(int) const {}
};
static_assert(moe::HasLaneOrder<NoSynchronize> && !ExecutionSpace<NoSynchronize>);

struct NoEnter : WholeSpace<NoEnter> {
  void enter() const {}  // errors name the operation
};
static_assert(!moe::HasEnter<NoEnter> && !ExecutionSpace<NoEnter>);

struct PhaseOfNothing : WholeSpace<PhaseOfNothing> {
  void phase(moe::Phase) const {}  // it must last as long as the phase
};
static_assert(!moe::HasPhases<PhaseOfNothing> && !ExecutionSpace<PhaseOfNothing>);

struct PhaseByName : WholeSpace<PhaseByName> {
  [[nodiscard]] int phase(char const*) const { return 0; }
};
static_assert(!moe::HasPhases<PhaseByName> && !ExecutionSpace<PhaseByName>);

struct CountingMayThrow : WholeSpace<CountingMayThrow> {
  void count_sent(std::size_t) const {}  // a collective would end halfway
};
static_assert(!moe::HasPhases<CountingMayThrow> && !ExecutionSpace<CountingMayThrow>);

// -- teams --

struct WholeTeam {
  [[nodiscard]] int lane() const { return 0; }
  [[nodiscard]] int size() const { return 1; }
  template <class S>
  [[nodiscard]] S sum(S x) const
  {
    return x;
  }
  template <class S>
  [[nodiscard]] S max(S x) const
  {
    return x;
  }
  template <class S>
  [[nodiscard]] Id arg_max(S, Id i) const
  {
    return i;
  }
  void sync() const {}
};
static_assert(Team<WholeTeam> && Team<moe::SerialTeam>);

struct LaneWithoutNumber : WholeTeam {
  void lane() const {}
};
static_assert(!moe::HasLanes<LaneWithoutNumber> && !Team<LaneWithoutNumber>);

struct SumOfFloatAlone : WholeTeam {
  [[nodiscard]] float sum(float x) const { return x; }  // would round a double layer's
};
static_assert(moe::HasReductions<SumOfFloatAlone, float> &&
              !moe::HasReductions<SumOfFloatAlone, double> && !Team<SumOfFloatAlone>);

struct NoMax : WholeTeam {
  void max() const {}
};
static_assert(!moe::HasReductions<NoMax, float> && !Team<NoMax>);

struct ArgMaxWithoutIndex : WholeTeam {
  template <class S>
  [[nodiscard]] Id arg_max(S) const
  {
    return 0;
  }
};
static_assert(!moe::HasReductions<ArgMaxWithoutIndex, float> && !Team<ArgMaxWithoutIndex>);

struct NoSync : WholeTeam {
  void sync(int) const {}
};
static_assert(!moe::HasSync<NoSync> && !Team<NoSync>);

}  // namespace

// What no signature says: every row once, and a handle's copies are the same space.
TEST_CASE_TEMPLATE("a space runs every row exactly once", Space, Whole, moe::Host)
{
  Space const exec{};
  auto const copy = exec;
  for (index_t const n : {0, 1, 2, 1000}) {
    std::vector<std::atomic<int>> runs(static_cast<std::size_t>(n));
    auto const count = [&](auto team, index_t i) {
      static_assert(Team<decltype(team)>);
      ++runs[static_cast<std::size_t>(i)];
    };
    exec.for_each_row(n, count);
    copy.lane(1).for_each_row(n, count);
    for (auto const& r : runs) {
      CHECK(r == 2);
    }
  }
}
