#pragma once
// One rank stands still at some point of a step until the others have ended: because it never came,
// or because another failed meanwhile.
#include <array>
#include <atomic>
#include <thread>

#include "support/rank_faults.hpp"

namespace moe::test::faults {

// Of every wait here. Longer than ranks are apart while some of these worlds run at once.
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
inline constexpr std::chrono::milliseconds standing_deadline{2000};
#else
inline constexpr std::chrono::milliseconds standing_deadline{400};
#endif

// What the others miss when a rank stands at points[at]: what it would have done next that they
// wait for.
inline RankEnd missed(std::vector<StepPoint> const& points, std::size_t at, int rank)
{
  std::size_t next = at;
  while (points[next].name.starts_with("wait") || points[next].name.starts_with("work")) {
    ++next;
  }
  StepPoint const& p = points[next];
  RankEnd end;
  end.kind    = RankEnd::timeout;
  end.rank    = rank;
  end.missing = {rank};
  if (p.name.starts_with("signal")) {
    end.operation = "moe::Window::wait";
    end.sequence  = p.signals;
    end.text      = "on channel " + std::to_string(p.channel) + " ";
  } else {
    end.operation = "moe::ThreadCommunicator::" + (p.name == "the end" ? "all_reduce_sum" : p.name);
    end.sequence  = p.sequence + 1;
    end.text      = "arrival of rank " + std::to_string(rank) + " ";
  }
  return end;
}

// Waits until `others` ranks have ended.
inline void stand_still(std::atomic<int> const& ended, int others)
{
  auto const start = std::chrono::steady_clock::now();
  while (ended < others && std::chrono::steady_clock::now() - start < std::chrono::seconds(60)) {
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
}

// While a rank is about to read what came and to store into its peers' windows, another throws, and
// all others end; then it goes on.
template <class MakeLayer>
void throw_while_one_works(std::string const& what,
                           MakeLayer const& make_layer,
                           Batch<float> const& whole,
                           std::vector<int> const& worlds)
{
  FaultCount count(what + ", a rank throws while another works");
  for (int const ranks : worlds) {
    CAPTURE(ranks);
    CalmWorld const calm(make_layer, whole, ranks);
    auto const& points = calm.first().steps[0].points;
    for (std::size_t at = 1; at <= points.size(); ++at) {
      if (!points[at - 1].name.starts_with("work")) { continue; }
      CAPTURE(at);
      int const working      = static_cast<int>(at % static_cast<std::size_t>(ranks));
      int const throwing     = (working + 1) % ranks;
      std::string const text = "rank " + std::to_string(throwing) + " is out of luck";
      std::atomic<int> ended{0};
      auto const prepare = [&](int r, RankSteps& steps) {
        if (r != working && r != throwing) { return; }
        steps.at  = at;
        steps.act = [&, r](StepPoint const&) {
          if (r == throwing) { throw std::runtime_error(text); }
          stand_still(ended, ranks - 1);
        };
      };
      auto const world = run_faulty(make_layer, whole, ranks, prepare, {}, long_deadline, &ended);
      count.add(world.end.thrown.text == text && ended_by(world.end, throwing, text), world);
    }
    calm.again();
  }
  CHECK(count.tried() > 20);
}

// The worlds share the points: all kinds come in turn, at ranks in turn.
template <class MakeLayer>
void stand_still_everywhere(std::string const& what,
                            MakeLayer const& make_layer,
                            Batch<float> const& whole,
                            std::vector<int> const& worlds)
{
  struct Standing {
    int ranks, rank;
    std::size_t at;  // counted from 1
    RankEnd expected{};
    FaultyWorld world{};
  };
  std::vector<Standing> all;
  for (std::size_t w = 0; w < worlds.size(); ++w) {
    int const ranks = worlds[w];
    auto const calm = run_faulty(make_layer, whole, ranks, no_fault);
    CHECK(calm.end.thrown == RankEnd{});
    for (std::size_t at = 1 + w; at <= calm.steps[0].points.size(); at += worlds.size()) {
      int const rank     = static_cast<int>((at + w) % static_cast<std::size_t>(ranks));
      auto const& points = calm.steps[static_cast<std::size_t>(rank)].points;
      if (at <= points.size()) { all.push_back({ranks, rank, at, missed(points, at - 1, rank)}); }
    }
  }
  CHECK(all.size() > 40);

  auto const run = [&](Standing& s) {
    std::atomic<int> ended{0};
    auto const prepare = [&](int r, RankSteps& steps) {
      if (r != s.rank) { return; }
      steps.at  = s.at;
      steps.act = [&](StepPoint const&) { stand_still(ended, s.ranks - 1); };
    };
    s.world = run_faulty(make_layer, whole, s.ranks, prepare, {}, standing_deadline, &ended);
  };
  constexpr std::size_t at_once = 4;
  for (std::size_t first = 0; first < all.size(); first += at_once) {
    std::vector<std::thread> threads;
    for (std::size_t i = first; i < std::min(first + at_once, all.size()); ++i) {
      threads.emplace_back([&, i] { run(all[i]); });
    }
    for (auto& t : threads) {
      t.join();
    }
  }

  FaultCount count(what + ", a rank stands still");
  for (Standing const& s : all) {
    CAPTURE(s.ranks);
    CAPTURE(s.rank);
    CAPTURE(s.at);
    bool good = true;
    for (RankEnd const& e : s.world.end.ranks) {
      good = good && e == s.world.end.thrown;
    }
    RankEnd const& e = s.world.end.thrown;
    CAPTURE(s.expected.operation);
    CAPTURE(s.expected.sequence);
    CAPTURE(s.expected.text);
    count.add(good && e.kind == s.expected.kind && e.operation == s.expected.operation &&
                  e.sequence == s.expected.sequence && e.rank == s.expected.rank &&
                  e.missing == s.expected.missing &&
                  e.text.find(s.expected.text) != std::string::npos,
              s.world);
  }
}

}  // namespace moe::test::faults
