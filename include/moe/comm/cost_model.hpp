#pragma once
// What an exchange of rows costs on a cluster: seconds, messages and bytes per tier, from four
// numbers and no machine.
//
// A message of m bytes takes a + m / B (Hockney 1994: latency a, bandwidth B). A rank sends and
// receives at once, its messages within a tier one after the other; a phase ends with its busiest
// rank. Contention in the network is not modelled: B is what one rank gets while all are sending.
#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include <moe/core/error.hpp>

namespace moe {

struct LinkTier {
  double latency   = 0;                                        // s per message
  double bandwidth = std::numeric_limits<double>::infinity();  // bytes/s per rank, each way

  [[nodiscard]] double seconds(double messages, double bytes) const
  {
    return messages * latency + bytes / bandwidth;
  }
};

// Ranks are numbered host by host: rank r is the (r % ranks_per_host)-th of host
// r / ranks_per_host. Fewer ranks than that are one host.
struct Cluster {
  LinkTier in_host, across_hosts;
  int ranks_per_host = 8;
  // Bytes/s at which a rank copies its rows into the order that they travel in.
  double pack_bandwidth = std::numeric_limits<double>::infinity();
};

// One tier's share of a collective.
struct TierCost {
  index_t messages = 0;  // that each rank sends; an empty block is a message too
  double bytes     = 0;  // that all ranks together send
  double seconds   = 0;  // of the busiest rank
};

struct ExchangeCost {
  TierCost in_host, across_hosts;
  double pack_seconds = 0;
  double seconds      = 0;

  [[nodiscard]] index_t messages() const { return in_host.messages + across_hosts.messages; }
  [[nodiscard]] double bytes() const { return in_host.bytes + across_hosts.bytes; }
};

// An exchange that was timed: `messages` from each rank, `bytes` of them together.
struct TimedExchange {
  double messages = 1, bytes = 0, seconds = 0;
};

// The tier that two timed exchanges of as many messages lie on.
inline LinkTier tier_through(TimedExchange const& small, TimedExchange const& large)
{
  Check const check{"moe::tier_through"};
  check.that(small.messages > 0 && small.messages == large.messages,
             "messages",
             large.messages,
             "the same of both, above 0");
  check.that(large.bytes > small.bytes && small.bytes >= 0, "bytes", large.bytes, "more in large");
  check.that(large.seconds > small.seconds, "seconds", large.seconds, "more in large");
  double const slope = (large.seconds - small.seconds) / (large.bytes - small.bytes);
  double const start = small.seconds - slope * small.bytes;
  check.that(start >= 0, "seconds of an empty exchange", start, "at least 0");
  return {start / small.messages, 1 / slope};
}

namespace detail {

struct ClusterShape {
  int hosts, ranks_per_host;
};

inline ClusterShape shape_of(char const* operation, Cluster const& cluster, int ranks)
{
  Check const check{operation};
  check.at_least("ranks", ranks, 1);
  check.at_least("ranks per host", cluster.ranks_per_host, 1);
  for (auto const& tier : {cluster.in_host, cluster.across_hosts}) {
    check.that(tier.latency >= 0 && std::isfinite(tier.latency),
               "latency",
               tier.latency,
               "at least 0 and finite");
    check.that(tier.bandwidth > 0, "bandwidth", tier.bandwidth, "above 0");
  }
  check.that(cluster.pack_bandwidth > 0, "pack bandwidth", cluster.pack_bandwidth, "above 0");
  int const per_host = std::min(ranks, cluster.ranks_per_host);
  check.that(ranks % per_host == 0, "ranks", ranks, "a multiple of the ranks per host");
  return {ranks / per_host, per_host};
}

// Bytes that each rank sends and receives in one tier.
class TierTraffic {
 public:
  explicit TierTraffic(int ranks)
      : sent_(static_cast<std::size_t>(ranks)), received_(static_cast<std::size_t>(ranks))
  {
  }
  void add(int from, int to, double bytes)
  {
    sent_[static_cast<std::size_t>(from)] += bytes;
    received_[static_cast<std::size_t>(to)] += bytes;
  }
  [[nodiscard]] TierCost cost(LinkTier const& tier, index_t messages) const
  {
    double all = 0, most = 0;
    for (std::size_t r = 0; r < sent_.size(); ++r) {
      all += sent_[r];
      most = std::max({most, sent_[r], received_[r]});
    }
    return {messages, all, tier.seconds(static_cast<double>(messages), most)};
  }

 private:
  std::vector<double> sent_, received_;  // (P)
};

inline TierCost even_cost(LinkTier const& tier, int ranks, index_t messages, double bytes_each)
{
  double const sent = static_cast<double>(messages) * bytes_each;
  return {messages, ranks * sent, tier.seconds(static_cast<double>(messages), sent)};
}

// Both tiers have links of their own, which work at the same time.
inline ExchangeCost at_once(TierCost const& in_host, TierCost const& across_hosts)
{
  return {in_host, across_hosts, 0, std::max(in_host.seconds, across_hosts.seconds)};
}
inline ExchangeCost one_after_the_other(TierCost const& in_host,
                                        TierCost const& across_hosts,
                                        double pack_seconds)
{
  return {
      in_host, across_hosts, pack_seconds, pack_seconds + in_host.seconds + across_hosts.seconds};
}

inline void check_matrix(char const* operation, int ranks, std::span<double const> bytes)
{
  Check const check{operation};
  check.equal(
      "bytes extent", static_cast<index_t>(bytes.size()), "ranks^2", index_t{ranks} * ranks);
  for (double const b : bytes) {
    check.that(b >= 0 && std::isfinite(b), "bytes", b, "at least 0 and finite");
  }
}

inline void check_block(char const* operation, double bytes)
{
  Check{operation}.that(
      bytes >= 0 && std::isfinite(bytes), "bytes", bytes, "at least 0 and finite");
}

}  // namespace detail

// Bytes from each rank to each when T tokens a rank choose K experts each evenly: rows of D.
inline double even_block_bytes(
    int ranks, index_t T, index_t K, index_t D, std::size_t element_bytes)
{
  return static_cast<double>(T) * static_cast<double>(K) * static_cast<double>(D) *
         static_cast<double>(element_bytes) / ranks;
}

// Every rank sends every other its block: P - 1 messages.
inline ExchangeCost flat_all_to_all(Cluster const& cluster, int ranks, double block_bytes)
{
  char const* const operation = "moe::flat_all_to_all";
  auto const [hosts, g]       = detail::shape_of(operation, cluster, ranks);
  detail::check_block(operation, block_bytes);
  return detail::at_once(detail::even_cost(cluster.in_host, ranks, g - 1, block_bytes),
                         detail::even_cost(cluster.across_hosts, ranks, ranks - g, block_bytes));
}

// bytes (P, P): bytes[s * P + d] go from rank s to rank d.
inline ExchangeCost flat_all_to_all(Cluster const& cluster,
                                    int ranks,
                                    std::span<double const> bytes)
{
  char const* const operation = "moe::flat_all_to_all";
  auto const [hosts, g]       = detail::shape_of(operation, cluster, ranks);
  detail::check_matrix(operation, ranks, bytes);
  detail::TierTraffic in_host(ranks), across_hosts(ranks);
  auto b = bytes.begin();
  for (int s = 0; s < ranks; ++s) {
    for (int d = 0; d < ranks; ++d, ++b) {
      if (s != d) { (s / g == d / g ? in_host : across_hosts).add(s, d, *b); }
    }
  }
  return detail::at_once(in_host.cost(cluster.in_host, g - 1),
                         across_hosts.cost(cluster.across_hosts, ranks - g));
}

// Tutel's 2DH (Hwang et al. 2023, "Tutel: Adaptive Mixture-of-Experts at Scale"): with g ranks on
// each of H hosts, a rank first hands each rank of its host all that is for the ranks of that local
// index, on any host; then ranks of the same local index exchange across hosts what their hosts
// hold for one another. (g - 1) + (H - 1) messages, those across hosts g times as large; what is
// for another local index crosses the host's links too, and rows are packed before each phase.
// A world of one phase only (one host, or one rank a host) packs nothing.
inline ExchangeCost hierarchical_all_to_all(Cluster const& cluster, int ranks, double block_bytes)
{
  char const* const operation = "moe::hierarchical_all_to_all";
  auto const [hosts, g]       = detail::shape_of(operation, cluster, ranks);
  detail::check_block(operation, block_bytes);
  bool const two_phases = hosts > 1 && g > 1;
  return detail::one_after_the_other(
      detail::even_cost(cluster.in_host, ranks, g - 1, hosts * block_bytes),
      detail::even_cost(cluster.across_hosts, ranks, hosts - 1, g * block_bytes),
      two_phases ? 2 * ranks * block_bytes / cluster.pack_bandwidth : 0);
}

// bytes (P, P), as above.
inline ExchangeCost hierarchical_all_to_all(Cluster const& cluster,
                                            int ranks,
                                            std::span<double const> bytes)
{
  char const* const operation = "moe::hierarchical_all_to_all";
  auto const [hosts, g]       = detail::shape_of(operation, cluster, ranks);
  detail::check_matrix(operation, ranks, bytes);
  bool const two_phases = hosts > 1 && g > 1;
  detail::TierTraffic in_host(ranks), across_hosts(ranks), first_pack(ranks), second_pack(ranks);
  auto b = bytes.begin();
  for (int s = 0; s < ranks; ++s) {
    for (int d = 0; d < ranks; ++d, ++b) {
      int const via = s / g * g + d % g;
      if (via != s) { in_host.add(s, via, *b); }
      if (via != d) { across_hosts.add(via, d, *b); }
      first_pack.add(s, s, *b);
      second_pack.add(via, via, *b);
    }
  }
  LinkTier const packing{0, cluster.pack_bandwidth};
  return detail::one_after_the_other(
      in_host.cost(cluster.in_host, g - 1),
      across_hosts.cost(cluster.across_hosts, hosts - 1),
      two_phases ? first_pack.cost(packing, 0).seconds + second_pack.cost(packing, 0).seconds : 0);
}

// n chunks, each exchanged and then computed on, with two buffers: chunk i is computed on while
// chunk i + 1 arrives, and chunk i + 2 waits for the buffer of chunk i. With c s of communication
// and p s of computing a chunk: the first exchange, n - 1 steps of the slower, the last computing.
struct OverlapCost {
  double communication = 0, compute = 0;  // of all chunks
  double seconds = 0;

  // 1: the shorter of the two is hidden whole; 0: nothing is.
  [[nodiscard]] double overlap() const
  {
    double const shorter = std::min(communication, compute);
    return shorter > 0 ? (communication + compute - seconds) / shorter : 0;
  }
};

inline OverlapCost overlapped(int chunks, double chunk_communication, double chunk_compute)
{
  Check const check{"moe::overlapped"};
  check.at_least("chunks", chunks, 1);
  check.that(chunk_communication >= 0, "communication", chunk_communication, "at least 0");
  check.that(chunk_compute >= 0, "compute", chunk_compute, "at least 0");
  return {chunks * chunk_communication,
          chunks * chunk_compute,
          chunk_communication + (chunks - 1) * std::max(chunk_communication, chunk_compute) +
              chunk_compute};
}

}  // namespace moe
