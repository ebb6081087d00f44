// Near misses of the communicator: each lacks one thing of the contract.
#include <moe/comm/communicator.hpp>
#include <moe/exec/host.hpp>

#include <doctest/doctest.h>

using moe::Communicator, moe::Host, moe::Id, moe::View;

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
