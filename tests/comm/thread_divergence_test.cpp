// Ranks that call different collectives, or the same with different sizes, are refused before any
// receive buffer is written.
#include <moe/comm/thread_world.hpp>

#include <string>

#include <doctest/doctest.h>

#include "support/rank_ends.hpp"

using namespace moe;
using namespace moe::test;

namespace {

std::string const prefix = "moe::ThreadCommunicator::";

Host host()
{
  return Host{{.threads = 1}};
}

// Worlds of 2 to 5, each rank in turn the one that differs, as the second collective. All end with
// the same error, which has `text`.
template <class Same, class Different>
void check_refused(std::string const& operation,
                   std::string const& text,
                   Same const& same,
                   Different const& different)
{
  for (int P = 2; P <= 5; ++P) {
    for (int odd = 0; odd < P; ++odd) {
      CAPTURE(P);
      CAPTURE(odd);
      ThreadWorld const world(P, {.deadline = std::chrono::seconds(60)});
      auto const end = run_to_end(world, [&](ThreadCommunicator const& comm) {
        std::vector<Id> x{1};
        comm.all_reduce_sum(host(), as_view(x));
        comm.rank() == odd ? different(comm) : same(comm);
      });
      // Compared with the first rank: when that is the odd one, the next looks odd.
      CHECK(end.thrown.kind == RankEnd::communication);
      CHECK(end.thrown.rank == (odd == 0 ? 1 : odd));
      CHECK(end.thrown.sequence == 2);
      if (odd > 0) {
        CHECK(end.thrown.operation == prefix + operation);
        CHECK(end.thrown.text.find(text) != std::string::npos);
      }
      for (auto const& e : end.ranks) {
        CHECK(e == end.thrown);
      }
      CHECK(end.seconds < 30);
    }
  }
}

void reduce_floats(ThreadCommunicator const& comm)
{
  std::vector<float> x(8, 1.f);
  try {
    comm.all_reduce_sum(host(), as_view(x));
  } catch (...) {
    CHECK(x == std::vector<float>(8, 1.f));
    throw;
  }
}

template <class T>
void reduce_eight(ThreadCommunicator const& comm)
{
  std::vector<T> x(8);
  comm.all_reduce_sum(host(), as_view(x));
}

}  // namespace

TEST_CASE("another operation")
{
  check_refused("all_gather",
                "all_gather, must be moe::ThreadCommunicator::all_reduce_sum, as of rank 0",
                reduce_floats,
                [](ThreadCommunicator const& comm) {
                  std::vector<float> x(8), all(x.size() * static_cast<std::size_t>(comm.size()));
                  comm.all_gather(host(), as_view(std::as_const(x)), as_view(all));
                });
  check_refused("split", "must be", reduce_floats, [](ThreadCommunicator const& comm) {
    (void)comm.split(0, 0);
  });
}

TEST_CASE("another count")
{
  check_refused("all_reduce_sum",
                "at sequence 2 is 7, must be 8, as of rank 0",
                reduce_floats,
                [](ThreadCommunicator const& comm) {
                  std::vector<float> x(7);
                  comm.all_reduce_sum(host(), as_view(x));
                });
}

TEST_CASE("another element size, and another element of the same size")
{
  check_refused("all_reduce_sum", "element size of rank", reduce_floats, reduce_eight<double>);
  check_refused(
      "all_reduce_sum", "at sequence 2 is signed, must be real", reduce_floats, reduce_eight<Id>);
  check_refused(
      "all_reduce_sum", "is Half, must be BFloat16", reduce_eight<BFloat16>, reduce_eight<Half>);
  check_refused(
      "all_reduce_sum", "is unsigned, must be signed", reduce_eight<Id>, reduce_eight<unsigned>);
}

TEST_CASE("a send count that is not the peer's receive count, for every pair")
{
  constexpr int P = 4;
  for (int from = 0; from < P; ++from) {
    for (int to = 0; to < P; ++to) {
      for (index_t const wrong : {0, 2, 4}) {
        CAPTURE(from);
        CAPTURE(to);
        ThreadWorld const world(P, {.deadline = std::chrono::seconds(60)});
        auto const end = run_to_end(world, [&](ThreadCommunicator const& comm) {
          std::vector<index_t> send_counts(P, 3);
          if (comm.rank() == from) { send_counts[static_cast<std::size_t>(to)] = wrong; }
          Counts const send(send_counts), receive(std::vector<index_t>(P, 3));
          std::vector<Id> x(static_cast<std::size_t>(send.total), 5), y(3 * P, -1);
          try {
            comm.all_to_all_v(
                host(), as_view(std::as_const(x)), send.blocks(), as_view(y), receive.blocks());
          } catch (...) {
            CHECK(y == std::vector<Id>(3 * P, -1));
            throw;
          }
        });
        CHECK(end.thrown.kind == RankEnd::communication);
        CHECK(end.thrown.rank == from);
        CHECK(end.thrown.operation == prefix + "all_to_all_v");
        CHECK(end.thrown.text.find("send count of rank " + std::to_string(from) + " to rank " +
                                   std::to_string(to) + " at sequence 1 is " +
                                   std::to_string(wrong) +
                                   ", must be the receive count there (3)") != std::string::npos);
        for (auto const& e : end.ranks) {
          CHECK(e == end.thrown);
        }
      }
    }
  }
}

TEST_CASE("ranks that disagree while another is missing: the disagreement is reported")
{
  ThreadWorld const world(3, {.deadline = std::chrono::milliseconds(500)});
  auto const end = run_to_end(world, [&](ThreadCommunicator const& comm) {
    if (comm.rank() == 0) { reduce_floats(comm); }
    if (comm.rank() == 1) { reduce_eight<double>(comm); }
  });
  CHECK(end.thrown.kind == RankEnd::communication);
  CHECK(end.thrown.rank == 1);
  CHECK(end.thrown.text.find("element size of rank 1 at sequence 1 is 8, must be 4") !=
        std::string::npos);
  CHECK(end.ranks[0] == end.ranks[1]);
}
