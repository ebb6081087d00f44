// Compile at -O1: layers, little work in each.
// Ranks under profilers of their own: the bytes of every collective on every communicator, and of a
// whole layer, whichever way its rows travel.
#include <doctest/doctest.h>

#include "comm/nccl_threads.hpp"
#include "support/rank_world.hpp"

using namespace moe;
using namespace moe::test;

namespace {

// Two hosts, for 8 ranks.
constexpr Cluster cluster{
    .in_host = {5e-6, 300e9}, .across_hosts = {10e-6, 50e9}, .ranks_per_host = 4};

// 3 ranks; elements of 4 bytes.
template <class CommT>
void check_bytes(CommT const& comm)
{
  int const P = comm.size(), me = comm.rank();
  HostProfiler profiler;
  Host const exec = Host({.threads = 1}).with(profiler);
  auto const sent = [&](auto const& collective) {
    profiler.reset();
    collective();
    auto const r = profiler.report();
    CHECK(r.of(Phase::communication).calls == 1);
    return r.bytes_sent;
  };
  std::vector<float> five(5), fifteen(15), other(15);
  CHECK(sent([&] { comm.all_reduce_sum(exec, as_view(fifteen)); }) == 2 * 2 * 5 * 4);
  CHECK(sent([&] { comm.all_reduce_sum(exec, as_view(five)); }) ==
        2 * 2 * 7);  // 20 / 3, rounded up
  CHECK(sent([&] { comm.all_gather(exec, as_view(five), as_view(fifteen)); }) == 2 * 5 * 4);
  CHECK(sent([&] { comm.reduce_scatter_sum(exec, as_view(fifteen), as_view(five)); }) == 2 * 5 * 4);
  CHECK(sent([&] { comm.all_to_all(exec, as_view(fifteen), as_view(other)); }) == 2 * 5 * 4);

  // Rank r sends r + 1 elements to each, its own too.
  std::vector<index_t> counts(3, me + 1), offsets(3), from(3), from_offsets(3);
  for (int r = 0; r < P; ++r) {
    auto const i    = static_cast<std::size_t>(r);
    offsets[i]      = r * (me + 1);
    from[i]         = r + 1;
    from_offsets[i] = r * 4;
  }
  CHECK(sent([&] {
          comm.all_to_all_v(exec,
                            as_view(fifteen),
                            RankBlocks{counts, offsets},
                            as_view(other),
                            RankBlocks{from, from_offsets});
        }) == 2 * (me + 1) * 4);
}

struct Seen {
  RankPass<float> pass;
  ProfileReport report;
};
// Each rank's pass and report; without profilers the report is empty.
template <class MakeExchange>
std::vector<Seen> run(Batch<float> const& whole, int P, bool profiled, MakeExchange const& make)
{
  std::vector<Seen> seen(static_cast<std::size_t>(P));
  auto const parts = ranks::even_parts(P);
  ThreadWorld(P, {.deadline = std::chrono::seconds(60)}).run([&](ThreadCommunicator const& comm) {
    HostProfiler profiler;
    Host const exec     = profiled ? ranks::own().with(profiler) : ranks::own();
    auto const exchange = make(comm);
    AllToAllDispatcher const dispatcher(comm, {}, BatchedSchedule{}, exchange, EachChoice{});
    auto const r   = static_cast<std::size_t>(comm.rank());
    seen[r].pass   = run_rank<float>(ranks::layer_of(Dropless{}, dispatcher),
                                   exec,
                                   whole,
                                   parts[r],
                                   dispatcher.experts_here(whole.sizes.experts));
    seen[r].report = profiler.report();
  });
  return seen;
}

}  // namespace

TEST_CASE("bytes of each collective: to the other ranks, the own part left out")
{
  ThreadWorld(3, {.deadline = std::chrono::seconds(60)}).run([](ThreadCommunicator const& comm) {
    check_bytes(comm);
  });
  on_world(3, [](MockCommunicator const& comm) { check_bytes(comm); });
  SimulatedCommunicator const simulated(cluster, 3, 1);
  check_bytes(simulated);
}

TEST_CASE("alone, nothing is sent")
{
  HostProfiler profiler;
  Host const exec = Host({.threads = 1}).with(profiler);
  std::vector<float> x(4), y(4);
  SelfCommunicator{}.all_to_all(exec, as_view(x), as_view(y));
  ThreadWorld(1).run([&](ThreadCommunicator const& comm) {
    comm.all_reduce_sum(exec, as_view(x));
    comm.all_to_all(exec, as_view(x), as_view(y));
  });
  CHECK(profiler.report().bytes_sent == 0);
  CHECK(profiler.report().collectives == 0);
}

TEST_CASE("a layer over ranks: the bits of one without profilers, communication in every pass")
{
  int const P       = 4;
  auto const whole  = Batch<float>::make(ranks::layer_of(Dropless{}, SerialDispatcher{}),
                                         {.hidden = 24, .experts = 8, .expert = {.ffn = 17}},
                                        ranks::tokens,
                                        8);
  auto const flat   = [](ThreadCommunicator const&) { return FlatExchange{}; };
  auto const two    = [](ThreadCommunicator const& comm) { return HierarchicalExchange(comm, 2); };
  auto const plain  = run(whole, P, false, flat);
  auto const once   = run(whole, P, true, flat);
  auto const levels = run(whole, P, true, two);
  for (std::size_t r = 0; r < plain.size(); ++r) {
    CAPTURE(r);
    CHECK(once[r].pass == plain[r].pass);
    CHECK(levels[r].pass == plain[r].pass);
    CHECK(plain[r].report.bytes_sent == 0);
    CHECK(plain[r].report.arena_bytes == 0);
    auto const& report = once[r].report;
    for (Phase const pass : {Phase::forward, Phase::backward, Phase::evaluate}) {
      CHECK(report.of(pass, Phase::communication).calls > 0);
    }
    CHECK(report.times[ProfileReport::passes - 1][static_cast<int>(Phase::communication)].calls >
          0);
    CHECK(report.communication_ms > 0);
    CHECK(report.overlap == 0);  // one thread does one thing at a time
    CHECK(report.bus_bandwidth ==
          doctest::Approx(1e3 * report.bytes_sent / report.communication_ms));
    CHECK(report.communication_to_computation ==
          doctest::Approx(report.communication_ms / report.computation_ms));
  }
  // Rows that go by another rank of the host are sent twice.
  auto const total = [](std::vector<Seen> const& all) {
    double sum = 0;
    for (auto const& s : all) {
      sum += s.report.bytes_sent;
    }
    return sum;
  };
  CHECK(total(levels) > 1.05 * total(once));

  // Stored rows: a token's once for each rank, counted where they are known; no numbers.
  auto const stored = run(whole, P, true, [](ThreadCommunicator const&) {
    return OneSidedExchange<Host>({.tokens = ranks::tokens, .choices = 2 * ranks::tokens});
  });
  for (std::size_t r = 0; r < plain.size(); ++r) {
    CHECK(stored[r].pass == plain[r].pass);
    CHECK(stored[r].report.bytes_sent > 0.5 * once[r].report.bytes_sent);
    CHECK(stored[r].report.bytes_sent < once[r].report.bytes_sent);
  }
}

TEST_CASE("rows that are stored at other ranks, counted on the device")
{
  std::vector<Id> const goes_to{-1, 0, 1, 2, 5, 4, -1}, count{3, 1, 10, 20, 5, 0};
  std::uint64_t sent = 7;
  Host const exec({.threads = 1});
  exec.for_each_row(1,
                    moe::detail::CountSentRow<Host>{as_view(goes_to),
                                                    as_view(count),
                                                    6,  // choices: the last is an old one
                                                    2,  // chunks, of 3 ranks
                                                    2,  // experts here
                                                    1,  // this rank
                                                    100,
                                                    &sent});
  // Parts 0 and 1 are rank 0's, 2 and 3 this one's; counts 10 and 20 came from here.
  CHECK(sent == 7 + (2 + 2 + 3 + 1 + 5 + 0) * 100);
}

TEST_CASE("a layer's bytes are those that the simulated rank counts as sent")
{
  GateFfnSizes const sizes{.hidden = 24, .experts = 16, .expert = {.ffn = 5}};
  auto const whole =
      Batch<float>::make(ranks::layer_of(Dropless{}, SerialDispatcher{}), sizes, ranks::tokens, 7);
  SimulatedCommunicator const comm(cluster, 8, 3);
  HostProfiler profiler;
  (void)run_rank(ranks::layer_of(Dropless{}, AllToAllDispatcher<SimulatedCommunicator>{comm}),
                 ranks::own().with(profiler),
                 whole,
                 TokenRange{0, ranks::tokens},
                 experts_of_rank(sizes.experts, 8, 3));
  auto const seen   = comm.traffic();
  auto const report = profiler.report();
  CHECK(seen.across_hosts_bytes > 0);
  CHECK(report.bytes_sent == static_cast<double>(seen.in_host_bytes + seen.across_hosts_bytes));
  CHECK(report.of(Phase::communication).calls == static_cast<double>(seen.collectives));
}
