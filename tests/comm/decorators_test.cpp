// Communicators that record, delay and fail, around each other and around both communicators.
#include <moe/comm/decorators.hpp>
#include <moe/comm/thread_world.hpp>

#include <string>

#include <doctest/doctest.h>

#include "support/rank_ends.hpp"

using namespace moe;
using namespace moe::test;

namespace {

ThreadWorldOptions const long_deadline{.deadline = std::chrono::seconds(60)};

// All seven, with results of a world of P.
template <class CommT>
void call_all(CommT const& comm)
{
  Host const exec{{.threads = 1}};
  auto const P = static_cast<std::size_t>(comm.size());
  std::vector<float> few(3, 1.f), many(3 * P), more(3 * P, 2.f);
  comm.all_reduce_sum(exec, as_view(few));
  CHECK(few == std::vector<float>(3, static_cast<float>(P)));
  comm.all_gather(exec, as_view(std::as_const(few)), as_view(many));
  CHECK(many == std::vector<float>(3 * P, static_cast<float>(P)));
  comm.reduce_scatter_sum(exec, as_view(std::as_const(more)), as_view(few));
  CHECK(few == std::vector<float>(3, static_cast<float>(2 * P)));
  comm.all_to_all(exec, as_view(std::as_const(more)), as_view(many));
  CHECK(many == more);
  Counts const counts(std::vector<index_t>(P, 2));
  many.assign(3 * P, 0.f);
  comm.all_to_all_v(
      exec, as_view(std::as_const(more)), counts.blocks(), as_view(many), counts.blocks());
  CHECK(many[2 * P - 1] == 2.f);
  CHECK(many[2 * P] == 0.f);
  auto const group = comm.split(0, -comm.rank());
  CHECK(group.rank() == comm.size() - 1 - comm.rank());
  std::vector<double> one{1};
  group.all_reduce_sum(exec, as_view(one));
  CHECK(one[0] == static_cast<double>(P));
}

char const* const names[] = {"all_reduce_sum",
                             "all_gather",
                             "reduce_scatter_sum",
                             "all_to_all",
                             "all_to_all_v",
                             "split",
                             "all_reduce_sum"};

template <class CommT>
void check_recorded(CommT const& inner)
{
  RecordingCommunicator const comm(inner);
  auto const P = static_cast<std::size_t>(comm.size());
  call_all(comm);
  std::size_t const bytes[] = {12, 12, 12 * P, 12 * P, 8 * P, 0, 8};
  REQUIRE(comm.calls().size() == 7);
  for (std::size_t i = 0; i < 7; ++i) {
    CHECK(std::string{comm.calls()[i].operation} == names[i]);
    CHECK(comm.calls()[i].bytes == bytes[i]);
    CHECK(comm.calls()[i].sequence == i + 1);
  }
}

}  // namespace

TEST_CASE("what is recorded: operation, bytes, and one count through copies and groups")
{
  check_recorded(SelfCommunicator{});
  for (int P : {1, 2, 5}) {
    ThreadWorld(P, long_deadline).run([](auto const& comm) { check_recorded(comm); });
  }
}

TEST_CASE("a delayed rank is waited for, and changes nothing")
{
  constexpr auto delay = std::chrono::milliseconds(5);
  ThreadWorld(3, long_deadline).run([&](ThreadCommunicator const& comm) {
    auto const start = std::chrono::steady_clock::now();
    DelayedCommunicator const slow(comm, comm.rank() == 1 ? delay : std::chrono::microseconds(0));
    call_all(RecordingCommunicator(slow));
    if (comm.rank() == 1) { CHECK(std::chrono::steady_clock::now() - start >= 7 * delay); }
  });
}

TEST_CASE("a failing collective: all ranks of worlds 2 to 8 end with it, at every number")
{
  int tried = 0, survived = 0;
  for (int P = 2; P <= 8; ++P) {
    for (int failing = 0; failing < P; ++failing) {
      for (std::uint64_t number = 1; number <= 7; ++number) {
        auto const end =
            run_to_end(ThreadWorld(P, long_deadline), [&](ThreadCommunicator const& comm) {
              call_all(FailingCommunicator(comm, comm.rank() == failing ? number : 0));
              std::vector<Id> last{1};
              comm.all_reduce_sum(Host{{.threads = 1}}, as_view(last));
            });
        bool good = end.thrown.kind == RankEnd::communication && end.thrown.sequence == number &&
                    end.thrown.operation == names[number - 1];
        for (auto const& e : end.ranks) {
          good = good && e == end.thrown;
        }
        CHECK(end.thrown.rank == failing);  // not the rank in the group of the seventh
        CHECK(good);
        ++tried;
        survived += good;
      }
    }
  }
  MESSAGE("failing collectives tried ", tried, ", ended on all ranks with it ", survived);
}

TEST_CASE("in a world of one the decorator fails by itself, once")
{
  FailingCommunicator const comm(SelfCommunicator{}, 2);
  Host const exec{{.threads = 1}};
  std::vector<Id> x{4};
  comm.all_reduce_sum(exec, as_view(x));
  CHECK_THROWS_AS(comm.all_reduce_sum(exec, as_view(x)), CommunicationError);
  comm.all_reduce_sum(exec, as_view(x));
  CHECK(x[0] == 4);
}
