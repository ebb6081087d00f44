// Staged bytes: kept, grown, from the caller's resource, and its failure ends every rank.
#include <moe/comm/thread_world.hpp>

#include <atomic>
#include <cstdlib>
#include <new>
#include <stdexcept>

#include <doctest/doctest.h>

#include "support/rank_ends.hpp"
#include "support/tracking_resource.hpp"

namespace {
std::atomic<long> allocations{0};
}

// Everything that this program asks for is counted.
[[gnu::noinline]] void* operator new(std::size_t bytes)
{
  ++allocations;
  if (void* const p = std::malloc(bytes > 0 ? bytes : 1)) { return p; }
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(std::size_t bytes, std::align_val_t alignment)
{
  ++allocations;
  auto const a = static_cast<std::size_t>(alignment);
  if (void* const p = std::aligned_alloc(a, (bytes + a) / a * a)) { return p; }
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(std::size_t bytes, std::nothrow_t const&) noexcept
{
  ++allocations;
  return std::malloc(bytes > 0 ? bytes : 1);
}
[[gnu::noinline]] void operator delete(void* p, std::nothrow_t const&) noexcept
{
  std::free(p);
}
[[gnu::noinline]] void operator delete(void* p) noexcept
{
  std::free(p);
}
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept
{
  std::free(p);
}
[[gnu::noinline]] void operator delete(void* p, std::align_val_t) noexcept
{
  std::free(p);
}
[[gnu::noinline]] void operator delete(void* p, std::size_t, std::align_val_t) noexcept
{
  std::free(p);
}

using namespace moe;
using namespace moe::test;

namespace {

// One rank's buffers for every collective of at most `most` elements per rank.
struct Buffers {
  Buffers(int P, int me, index_t most)
      : counts_of_ranks(counts(P, most, -1)), mine(counts(P, most, me))
  {
    auto const n = static_cast<std::size_t>(P * most);
    a.resize(n);
    b.resize(n);
  }
  static std::vector<index_t> counts(int P, index_t most, int me)
  {
    std::vector<index_t> n;
    for (int r = 0; r < P; ++r) {
      n.push_back(most * ((me < 0 ? r : me) + 1) / P);
    }
    return n;
  }
  void all_collectives(Host const& exec, ThreadCommunicator const& comm, index_t n)
  {
    int const P = comm.size();
    View<float, 1, Host> const many(b.data(), P * n), few(b.data(), n);
    comm.all_reduce_sum(exec, few);
    comm.all_gather(exec, View<float const, 1, Host>(a.data(), n), many);
    comm.reduce_scatter_sum(exec, View<float const, 1, Host>(a.data(), P * n), few);
    comm.all_to_all(exec, View<float const, 1, Host>(a.data(), P * n), many);
    comm.all_to_all_v(
        exec, as_view(std::as_const(a)), mine.blocks(), as_view(b), counts_of_ranks.blocks());
  }
  Counts counts_of_ranks, mine;
  std::vector<float> a, b;
};

}  // namespace

TEST_CASE("a steady state asks for no memory at all, of varying sizes below the largest")
{
  for (int P : {1, 2, 3, 5, 8}) {
    CAPTURE(P);
    ThreadWorld(P, {.deadline = std::chrono::seconds(60)}).run([&](ThreadCommunicator const& comm) {
      index_t const most = 2000;
      Host const exec{{.threads = 1}};
      Buffers buffers(P, comm.rank(), most);
      auto const group = comm.split(comm.rank() % 2, 0);
      Buffers inner(group.size(), group.rank(), most);
      std::vector<float> one(1);
      auto const round = [&](index_t n) {
        buffers.all_collectives(exec, comm, n);
        inner.all_collectives(exec, group, n);
        comm.all_reduce_sum(exec,
                            as_view(one));  // an even number in the world, an odd one in the group
      };
      for (int i = 0; i < 4; ++i) {
        round(most);
        comm.all_reduce_sum(exec, as_view(one));  // so that each half has seen each collective
      }
      long const before = allocations;
      comm.all_reduce_sum(exec, as_view(one));  // nobody goes on before all have looked
      for (index_t i = 0; i < 50; ++i) {
        round(i * 37 % (most + 1));
      }
      comm.all_reduce_sum(exec, as_view(one));  // all are done
      long const after = allocations;
      comm.all_reduce_sum(exec, as_view(one));  // and have looked, before CHECK allocates
      CHECK(after == before);
    });
  }
}

TEST_CASE("staged bytes come from the caller's resource and return to it, also after a failure")
{
  for (bool const failing : {false, true}) {
    CountingResource counting;
    {
      ThreadWorld const world(4, {.deadline = std::chrono::seconds(60), .resource = &counting});
      auto const end = run_to_end(world, [&](ThreadCommunicator const& comm) {
        Buffers buffers(4, comm.rank(), 1000);
        auto const group = comm.split(0, 0);
        for (int i = 0; i < 3; ++i) {
          buffers.all_collectives(Host{{.threads = 1}}, i == 2 ? group : comm, 1000);
          if (failing && i == 1 && comm.rank() == 2) { throw std::runtime_error("the cause"); }
        }
      });
      CHECK((end.thrown.kind == RankEnd::returned) == !failing);
      CHECK(counting.blocks() > 0);
    }
    CHECK(counting.blocks() == 0);
    CHECK(counting.mistakes() == 0);
  }
}

TEST_CASE("no memory to stage in, at every allocation: a typed error there, its cause elsewhere")
{
  std::size_t failed = 0;
  for (std::size_t k = 1;; ++k) {
    CAPTURE(k);
    FailingResource resource(k);
    ThreadWorld const world(3, {.deadline = std::chrono::seconds(60), .resource = &resource});
    auto const end = run_to_end(world, [&](ThreadCommunicator const& comm) {
      Buffers buffers(3, comm.rank(), 100);
      for (int i = 0; i < 3; ++i) {
        buffers.all_collectives(Host{{.threads = 1}}, comm, 100);
      }
    });
    if (!resource.failed()) {
      CHECK(end.thrown == RankEnd{});
      break;
    }
    ++failed;
    CHECK(end.thrown.kind == RankEnd::other);
    CHECK(end.thrown.text.find("staged bytes is ") != std::string::npos);
    int causes = 0, consequences = 0;
    for (auto const& e : end.ranks) {
      causes += e.kind == RankEnd::other;
      consequences +=
          e.kind == RankEnd::communication && e.text.find("staged bytes") != std::string::npos;
    }
    CHECK(causes == 1);
    CHECK(consequences == 2);
  }
  CHECK(failed >= 6);  // both halves of three ranks
  MESSAGE("allocations failed in turn: ", failed);
}
