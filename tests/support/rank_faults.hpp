#pragma once
// The fault matrix of a step over ranks that are threads: each rank fails at each point of it, in
// every world; every rank ends with that cause, nothing is freed too early and nothing leaks, and
// the next world's step is as it was.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "support/rank_batch.hpp"
#include "support/rank_ends.hpp"
#include "support/stepped_communicator.hpp"
#include "support/tracking_resource.hpp"

namespace moe::test::faults {

inline constexpr GateFfnSizes sizes{.hidden = 8, .experts = 5, .expert = {.ffn = 6}};
inline constexpr index_t block = 4, blocks = 6, tokens = block * blocks;

// Whole blocks; in a world of 7 or 8 some ranks have none.
inline TokenRange tokens_of(int ranks, int rank)
{
  index_t const first = block * (blocks * rank / ranks);
  return {first, block * (blocks * (rank + 1) / ranks) - first};
}

// A layer of make_layer(communicator), once forward, evaluated and backward, with gradients summed.
template <class MakeLayer, class CommT>
RankPass<float> pass_of(MakeLayer const& make_layer,
                        CommT const& comm,
                        Host const& exec,
                        Batch<float> const& whole)
{
  return run_rank<float>(make_layer(comm, exec),
                         exec,
                         whole,
                         tokens_of(comm.size(), comm.rank()),
                         experts_of_rank(sizes.experts, comm.size(), comm.rank()));
}

// Where memory is refused: the n-th allocation, counted from 1, of that rank's own or of what the
// ranks share.
struct OutOfMemory {
  static constexpr int shared = -1;
  int of                      = shared;
  std::size_t n               = 0;  // 0: never
};

// One step of one world, and what it left behind.
struct FaultyWorld {
  WorldEnd end;
  std::vector<RankPass<float>> passes;     // (P)
  std::vector<RankSteps> steps;            // (P)
  std::vector<std::size_t> allocations{};  // (P) of the ranks' own
  std::size_t shared_allocations = 0;
  bool clean                     = false;  // no leak, nothing freed twice or too early
};

// Longer than all of this takes: whoever ends before was not ended by it.
inline constexpr std::chrono::milliseconds long_deadline{120'000};

// `prepare(rank, steps)` says where what happens; `ended` counts the ranks that have.
template <class MakeLayer, class Prepare>
FaultyWorld run_faulty(MakeLayer const& make_layer,
                       Batch<float> const& whole,
                       int ranks,
                       Prepare const& prepare,
                       OutOfMemory out_of_memory          = {},
                       std::chrono::milliseconds deadline = long_deadline,
                       std::atomic<int>* ended            = nullptr)
{
  struct CountEnd {
    std::atomic<int>* ended;
    ~CountEnd()
    {
      if (ended != nullptr) { ++*ended; }
    }
  };
  auto const P = static_cast<std::size_t>(ranks);
  FaultyWorld world;
  world.passes.resize(P);
  world.steps.resize(P);
  CountingResource counted_shared;
  FailingResource shared(out_of_memory.of == OutOfMemory::shared ? out_of_memory.n : 0,
                         &counted_shared);
  WindowWatch watch(&shared);
  std::vector<CountingResource> counted(P);
  std::vector<std::unique_ptr<FailingResource>> own;
  for (int r = 0; r < ranks; ++r) {
    own.push_back(std::make_unique<FailingResource>(r == out_of_memory.of ? out_of_memory.n : 0,
                                                    &counted[static_cast<std::size_t>(r)]));
    prepare(r, world.steps[static_cast<std::size_t>(r)]);
  }
  ThreadWorldOptions const options{.deadline = deadline, .resource = &watch};
  world.end = run_to_end(ThreadWorld(ranks, options), [&](ThreadCommunicator const& comm) {
    CountEnd const count{ended};
    auto const r     = static_cast<std::size_t>(comm.rank());
    RankSteps& steps = world.steps[r];
    Host const exec({.threads = 1, .resource = own[r].get(), .products = Products::own});
    world.passes[r] = pass_of(make_layer, SteppedCommunicator(comm, steps, watch), exec, whole);
    steps.come_to({.name = "the end"});
    Id nothing = 0;
    comm.all_reduce_sum(exec, View<Id, 1, Host>(&nothing, 1));  // nobody is done before all are
  });
  world.clean =
      watch.mistakes() == 0 && counted_shared.blocks() == 0 && counted_shared.mistakes() == 0;
  for (auto const& memory : counted) {
    world.clean = world.clean && memory.blocks() == 0 && memory.mistakes() == 0;
  }
  for (auto const& resource : own) {
    world.allocations.push_back(resource->asked());
  }
  world.shared_allocations = shared.asked();
  return world;
}

inline auto const no_fault = [](int, RankSteps&) {};

// All but `rank` ended with the same CommunicationError, of that rank and with its text.
inline bool ended_by(WorldEnd const& end, int rank, std::string const& text)
{
  RankEnd const& other = end.ranks[rank == 0 ? 1 : 0];
  bool good            = other.kind == RankEnd::communication && other.rank == rank &&
              other.text.find(text) != std::string::npos;
  for (std::size_t r = 0; r < end.ranks.size(); ++r) {
    good = good && end.ranks[r] == (static_cast<int>(r) == rank ? end.thrown : other);
  }
  return good && end.thrown.kind == RankEnd::other;
}

class FaultCount {
 public:
  explicit FaultCount(std::string what) : what_{std::move(what)} {}
  ~FaultCount()
  {
    std::sort(seconds_.begin(), seconds_.end());
    auto const at = [&](double q) {
      return 1e3 * seconds_[static_cast<std::size_t>(q * static_cast<double>(seconds_.size() - 1))];
    };
    if (seconds_.empty()) { return; }
    MESSAGE(what_,
            ": points tried ",
            tried_,
            ", survived ",
            survived_,
            ", time to error p50 ",
            at(0.5),
            " ms, p99 ",
            at(0.99),
            " ms");
  }
  FaultCount(FaultCount const&)            = delete;
  FaultCount& operator=(FaultCount const&) = delete;

  // A point's world, and whether it ended as it must.
  void add(bool good, FaultyWorld const& world)
  {
    ++tried_;
    survived_ += good && world.clean ? 1 : 0;
    seconds_.push_back(world.end.seconds);
    INFO(world.end.thrown.text);
    CHECK(good);
    CHECK(world.clean);
    CHECK(world.end.seconds < 60);
  }
  [[nodiscard]] int tried() const { return tried_; }

 private:
  std::string what_;
  std::vector<double> seconds_;
  int tried_ = 0, survived_ = 0;
};

// A step that nothing disturbs, and the same step of later worlds.
template <class MakeLayer>
class CalmWorld {
 public:
  CalmWorld(MakeLayer const& make_layer, Batch<float> const& whole, int ranks)
      : make_layer_{make_layer}, whole_{whole}, ranks_{ranks}, first_{run()}
  {
  }
  [[nodiscard]] FaultyWorld const& first() const { return first_; }
  void again() const { CHECK(run().passes == first_.passes); }

 private:
  [[nodiscard]] FaultyWorld run() const
  {
    auto world = run_faulty(make_layer_, whole_, ranks_, no_fault);
    CHECK(world.end.thrown == RankEnd{});
    CHECK(world.clean);
    return world;
  }
  MakeLayer const& make_layer_;
  Batch<float> const& whole_;
  int ranks_;
  FaultyWorld first_;
};

// Each rank throws at each point.
template <class MakeLayer>
void throw_everywhere(std::string const& what,
                      MakeLayer const& make_layer,
                      Batch<float> const& whole,
                      std::vector<int> const& worlds)
{
  FaultCount count(what + ", a rank throws");
  for (int const ranks : worlds) {
    CAPTURE(ranks);
    CalmWorld const calm(make_layer, whole, ranks);
    for (int rank = 0; rank < ranks; ++rank) {
      CAPTURE(rank);
      auto const& points = calm.first().steps[static_cast<std::size_t>(rank)].points;
      CHECK(points.size() > 20);
      for (std::size_t at = 1; at <= points.size(); ++at) {
        StepPoint const& point = points[at - 1];
        std::string const text = "rank " + std::to_string(rank) + " is out of luck at point " +
                                 std::to_string(at) + ", before " + point.name;
        INFO(text);
        auto const world  = run_faulty(make_layer, whole, ranks, [&](int r, RankSteps& steps) {
          if (r != rank) { return; }
          steps.at  = at;
          steps.act = [&](StepPoint const&) { throw std::runtime_error(text); };
        });
        auto const& other = world.end.ranks[rank == 0 ? 1 : 0];
        count.add(world.end.thrown.text == text && ended_by(world.end, rank, text) &&
                      other.operation == point.collective &&
                      (point.groups || other.sequence == point.sequence),
                  world);
        if (count.tried() % 16 == 0) { calm.again(); }
      }
    }
    calm.again();
  }
}

// Each allocation of a rank, the ranks in turn, and each of what they share.
template <class MakeLayer>
void run_out_of_memory_everywhere(std::string const& what,
                                  MakeLayer const& make_layer,
                                  Batch<float> const& whole,
                                  std::vector<int> const& worlds)
{
  FaultCount count(what + ", no memory");
  for (int const ranks : worlds) {
    CAPTURE(ranks);
    CalmWorld const calm(make_layer, whole, ranks);
    auto const try_each = [&](bool shared, std::size_t allocations) {
      CHECK(allocations > 0);
      for (std::size_t n = 1; n <= allocations; ++n) {
        int const of =
            shared ? OutOfMemory::shared : static_cast<int>(n % static_cast<std::size_t>(ranks));
        CAPTURE(of);
        CAPTURE(n);
        auto const world = run_faulty(make_layer, whole, ranks, no_fault, {of, n});
        int who          = of;
        for (int r = 0; r < ranks && who < 0; ++r) {
          if (world.end.ranks[static_cast<std::size_t>(r)].kind == RankEnd::other) { who = r; }
        }
        count.add(who >= 0 && world.end.thrown.text.find("bytes") != std::string::npos &&
                      ended_by(world.end, who, world.end.thrown.text),
                  world);
      }
    };
    auto const& own = calm.first().allocations;
    try_each(false, *std::min_element(own.begin(), own.end()));
    try_each(true, calm.first().shared_allocations);
    calm.again();
  }
}

}  // namespace moe::test::faults
