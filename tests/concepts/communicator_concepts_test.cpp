// Near misses of the communicator: each lacks one thing of the contract.
#include <moe/comm/communicator.hpp>
#include <moe/comm/decorators.hpp>
#include <moe/comm/simulated_communicator.hpp>
#include <moe/comm/thread_world.hpp>
#include <moe/comm/window_communicator.hpp>
#include <moe/exec/host.hpp>

#include <doctest/doctest.h>

#include <concepts>
#include <string>
#include <vector>

using moe::Communicator, moe::ExchangeCommunicator, moe::Host, moe::Id, moe::RankBlocks, moe::View;

namespace {

struct Whole {
  [[nodiscard]] int rank() const { return 0; }
  [[nodiscard]] int size() const { return 1; }
  template <class ExecT, class T>
  void all_reduce_sum(ExecT const&, View<T, 1, ExecT>) const
  {
  }
};
static_assert(Communicator<Whole, Host> && Communicator<moe::SelfCommunicator, Host>);

struct NoRank : Whole {
  void rank() const {}
};
static_assert(!moe::HasRank<NoRank> && !Communicator<NoRank, Host>);

struct SizeNotConst : Whole {
  [[nodiscard]] int size() { return 1; }
};
static_assert(!moe::HasRank<SizeNotConst> && !Communicator<SizeNotConst, Host>);

struct CountsAlone : Whole {
  template <class ExecT>
  void all_reduce_sum(ExecT const&, View<Id, 1, ExecT>) const
  {
  }
};
static_assert(moe::HasAllReduce<CountsAlone, Host, Id> &&
              !moe::HasAllReduce<CountsAlone, Host, float> && !Communicator<CountsAlone, Host>);

struct OutOfStreamOrder : Whole {
  template <class T, class ExecT>
  void all_reduce_sum(View<T, 1, ExecT>) const
  {
  }
};
static_assert(!moe::HasAllReduce<OutOfStreamOrder, Host, float> &&
              !Communicator<OutOfStreamOrder, Host>);

struct GivesACopy : Whole {
  template <class ExecT, class T>
  View<T, 1, ExecT> all_reduce_sum(ExecT const&, View<T, 1, ExecT> x) const
  {
    return x;
  }
};
static_assert(!moe::HasAllReduce<GivesACopy, Host, Id> && !Communicator<GivesACopy, Host>);

// What rows travel over: Whole with the exchanges.
struct Exchange : Whole {
  template <class ExecT, class T>
  void all_gather(ExecT const&,
                  std::type_identity_t<View<T const, 1, ExecT>>,
                  View<T, 1, ExecT>) const
  {
  }
  template <class ExecT, class T>
  void reduce_scatter_sum(ExecT const&,
                          std::type_identity_t<View<T const, 1, ExecT>>,
                          View<T, 1, ExecT>) const
  {
  }
  template <class ExecT, class T>
  void all_to_all(ExecT const&,
                  std::type_identity_t<View<T const, 1, ExecT>>,
                  View<T, 1, ExecT>) const
  {
  }
  template <class ExecT, class T>
  void all_to_all_v(ExecT const&,
                    std::type_identity_t<View<T const, 1, ExecT>>,
                    RankBlocks const&,
                    View<T, 1, ExecT>,
                    RankBlocks const&) const
  {
  }
};
template <class DerivedT>
struct Splits : Exchange {
  [[nodiscard]] DerivedT split(int, int) const { return {}; }
};
struct WholeExchange : Splits<WholeExchange> {};
static_assert(ExchangeCommunicator<WholeExchange, Host, float>);
static_assert(Communicator<Exchange, Host> &&
              !ExchangeCommunicator<Exchange, Host, float>);  // split

// Every communicator of the library, and every decorator around each.
template <class C>
constexpr bool exchanges =
    ExchangeCommunicator<C, Host, float> && ExchangeCommunicator<C, Host, double> &&
    ExchangeCommunicator<C, Host, moe::BFloat16> && moe::HasAllGather<C, Host, std::byte> &&
    moe::HasAllToAllV<C, Host, std::byte>;
template <class C>
constexpr bool exchanges_decorated =
    exchanges<C> && exchanges<moe::RecordingCommunicator<C>> &&
    exchanges<moe::DelayedCommunicator<C>> && exchanges<moe::FailingCommunicator<C>>;
static_assert(exchanges_decorated<moe::SelfCommunicator>);
static_assert(exchanges_decorated<moe::ThreadCommunicator>);
template <class C>
using OverWindow = moe::WindowCommunicator<C, Host>;
static_assert(exchanges_decorated<OverWindow<moe::ThreadCommunicator>>);
static_assert(exchanges<OverWindow<moe::RecordingCommunicator<moe::SelfCommunicator>>>);
static_assert(
    exchanges<moe::RecordingCommunicator<moe::DelayedCommunicator<moe::SelfCommunicator>>>);
static_assert(
    !moe::HasSplit<moe::RecordingCommunicator<Exchange>>);  // only what it goes around has

// A sum is of numbers; what travels is copied as bytes and may be written.
struct OwnsMemory {
  std::string name;
};
template <class C>
constexpr bool refuses_elements =
    !moe::HasAllReduce<C, Host, bool> && !moe::HasAllReduce<C, Host, void*> &&
    !moe::HasReduceScatter<C, Host, std::byte> && !moe::HasAllGather<C, Host, OwnsMemory> &&
    !moe::HasAllToAll<C, Host, OwnsMemory> && !moe::HasAllToAllV<C, Host, OwnsMemory>;
static_assert(refuses_elements<moe::SelfCommunicator> &&
              refuses_elements<moe::ThreadCommunicator> &&
              refuses_elements<OverWindow<moe::ThreadCommunicator>> &&
              refuses_elements<moe::RecordingCommunicator<moe::ThreadCommunicator>>);

struct GatherAlone : Splits<GatherAlone> {  // no receive buffer
  template <class ExecT, class T>
  void all_gather(ExecT const&, View<T const, 1, ExecT>) const
  {
  }
};
static_assert(!moe::HasAllGather<GatherAlone, Host, float> &&
              !ExchangeCommunicator<GatherAlone, Host, float>);

struct GatherWithoutCounts : Splits<GatherWithoutCounts> {  // rows, but not the counts before them
  template <class ExecT>
  void all_gather(ExecT const&, View<float const, 1, ExecT>, View<float, 1, ExecT>) const
  {
  }
};
static_assert(moe::HasAllGather<GatherWithoutCounts, Host, float> &&
              !ExchangeCommunicator<GatherWithoutCounts, Host, float>);

struct ScatterWithoutSum : Splits<ScatterWithoutSum> {
  void reduce_scatter_sum() const {}
};
static_assert(!moe::HasReduceScatter<ScatterWithoutSum, Host, float> &&
              !ExchangeCommunicator<ScatterWithoutSum, Host, float>);

struct WritesToSend : Splits<WritesToSend> {
  template <class ExecT, class T>
  void all_to_all(ExecT const&, View<T, 1, ExecT>, View<T, 1, ExecT>) const
  {
  }
};
static_assert(!moe::HasAllToAll<WritesToSend, Host, float> &&
              !ExchangeCommunicator<WritesToSend, Host, float>);

struct CountsOfSendAlone : Splits<CountsOfSendAlone> {
  template <class ExecT, class T>
  void all_to_all_v(ExecT const&,
                    std::type_identity_t<View<T const, 1, ExecT>>,
                    RankBlocks const&,
                    View<T, 1, ExecT>) const
  {
  }
};
static_assert(!moe::HasAllToAllV<CountsOfSendAlone, Host, float> &&
              !ExchangeCommunicator<CountsOfSendAlone, Host, float>);

struct SplitsIntoOthers : Splits<Whole> {};  // groups that cannot exchange
static_assert(!moe::HasSplit<SplitsIntoOthers> &&
              !ExchangeCommunicator<SplitsIntoOthers, Host, float>);

struct SplitsWithoutKey : Exchange {
  [[nodiscard]] SplitsWithoutKey split(int) const { return {}; }
};
static_assert(!moe::HasSplit<SplitsWithoutKey> &&
              !ExchangeCommunicator<SplitsWithoutKey, Host, float>);

// Memory that peers store into: every communicator of the library has it but the one whose peers
// are not there, and every decorator has what it goes around.
template <class C>
constexpr bool has_windows =
    moe::HasWindow<C, Host> && moe::HasWindow<moe::RecordingCommunicator<C>, Host> &&
    moe::HasWindow<moe::DelayedCommunicator<C>, Host> &&
    moe::HasWindow<moe::FailingCommunicator<C>, Host>;
static_assert(has_windows<moe::SelfCommunicator> && has_windows<moe::ThreadCommunicator> &&
              has_windows<OverWindow<moe::ThreadCommunicator>>);
static_assert(!moe::HasWindow<moe::SimulatedCommunicator, Host> &&
              !moe::HasWindow<moe::RecordingCommunicator<moe::SimulatedCommunicator>, Host>);
static_assert(!moe::HasWindow<WholeExchange, Host>);
struct OtherSpace {};
static_assert(!moe::HasWindow<moe::SelfCommunicator, OtherSpace> &&
              !moe::HasWindow<moe::ThreadCommunicator, OtherSpace>);

struct WindowWithoutOptions : Exchange {
  [[nodiscard]] moe::Window<Host> window(Host const& exec, std::size_t bytes) const
  {
    return moe::SelfCommunicator{}.window(exec, bytes);
  }
};
static_assert(!moe::HasWindow<WindowWithoutOptions, Host>);

struct WindowNotConst : Exchange {
  [[nodiscard]] moe::Window<Host> window(Host const& exec,
                                         std::size_t bytes,
                                         moe::WindowOptions const& options)
  {
    return moe::SelfCommunicator{}.window(exec, bytes, options);
  }
};
static_assert(!moe::HasWindow<WindowNotConst, Host>);

struct WindowOfPointers : Exchange {
  [[nodiscard]] moe::WindowView window(Host const&, std::size_t, moe::WindowOptions const&) const
  {
    return {};
  }
};
static_assert(!moe::HasWindow<WindowOfPointers, Host>);

// An owner: it moves, and is not copied.
static_assert(std::movable<moe::Window<Host>> && !std::copyable<moe::Window<Host>>);

}  // namespace

TEST_CASE("a world of one has nothing to add")
{
  moe::SelfCommunicator const comm;
  CHECK(comm.rank() == 0);
  CHECK(comm.size() == 1);
  Id counts[] = {3, 0, 5};
  comm.all_reduce_sum(Host{{.threads = 1}}, View<Id, 1, Host>(counts, 3));
  CHECK(counts[0] == 3);
  CHECK(counts[1] == 0);
  CHECK(counts[2] == 5);
}
