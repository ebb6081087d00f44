// The cost model against what was measured on four GPUs, and where flat and hierarchical exchanges
// cross.
#include <moe/comm/cost_model.hpp>

#include <cmath>
#include <string>

#include <doctest/doctest.h>

using namespace moe;

namespace {

// NVLink between the four GPUs of one host: all-to-alls of 128 and 512 MiB per rank reached 318 and
// 345 GB/s of what leaves the rank. Whether a rank's own part is among the MiB was not noted:
// `leaves`, 3/4 or 1 of them, is either reading.
constexpr double MiB    = 1024. * 1024.;
constexpr int nvl_ranks = 4;
TimedExchange timed(double MiB_per_rank, double bytes_per_second, double leaves)
{
  double const bytes = MiB_per_rank * MiB * leaves;
  return {nvl_ranks - 1, bytes, bytes / bytes_per_second};
}
Cluster nvlink(double leaves)
{
  return {.in_host        = tier_through(timed(128, 318e9, leaves), timed(512, 345e9, leaves)),
          .across_hosts   = {},
          .ranks_per_host = nvl_ranks};
}

}  // namespace

// Expert parallelism on four H200 of one host over NCCL, bf16, even random routing. Forward: the
// rows out, their weights out (fp32), the rows back; backward as much again, with the gradients of
// the weights. The exchanges alone, measured; the model of them has no figure but the two above.
TEST_CASE("from two NVLink figures: the exchanges of layers on four GPUs within 15 %")
{
  struct Layer {
    std::string name;
    index_t T, K, D;
    double forward_ms, both_ms;
  };
  Layer const layers[] = {{"mixtral", 8192, 2, 4096, 0.73, 1.45},
                          {"qwen3", 8192, 8, 2048, 1.34, 2.67},
                          {"dsv3-64", 8192, 8, 7168, 4.23, 8.45},
                          {"dbrx", 8192, 4, 6144, 2.00, 3.96},
                          {"olmoe", 8192, 8, 2048, 1.31, 2.62}};
  for (double const leaves : {0.75, 1.}) {
    CAPTURE(leaves);
    auto const cluster    = nvlink(leaves);
    auto const forward_ms = [&](index_t T, index_t K, index_t D) {
      auto const seconds = [&](index_t width, std::size_t element) {
        double const block = even_block_bytes(nvl_ranks, T, K, width, element);
        return flat_all_to_all(cluster, nvl_ranks, block).seconds;
      };
      return 1e3 * (2 * seconds(D, 2) + seconds(1, 4));
    };
    for (auto const& l : layers) {
      CAPTURE(l.name);
      double const ms = forward_ms(l.T, l.K, l.D);
      MESSAGE("forward ", ms, " ms, measured ", l.forward_ms);
      CHECK(std::abs(ms - l.forward_ms) <= 0.15 * l.forward_ms);
      CHECK(std::abs(2 * ms - l.both_ms) <= 0.15 * l.both_ms);
    }

    // A third figure of the same links, 192 GB/s at 16 MiB, is on the line as well.
    auto const small = timed(16, 192e9, leaves);
    CHECK(cluster.in_host.seconds(small.messages, small.bytes) ==
          doctest::Approx(small.seconds).epsilon(0.15));

    // qwen3 with 32,768 tokens a rank took 6.82 ms.
    double const predicted = forward_ms(32768, 8, 2048);
    MESSAGE("qwen3 of 32,768 tokens: forward ", predicted, " ms, measured 6.82");
    CHECK(predicted < 0.72 * 6.82);
  }
}

// No latency and bandwidth explain that row. Latency + bytes / bandwidth rises at most in
// proportion to the bytes, but four times the bytes of qwen3, the rows the same, took 5.1 times as
// long. Beside dsv3-64 (896 MiB a rank, 224 MiB a message) it sends 1.14 times as much (1,024 and
// 256 MiB) in 1.61 times the time: 3.4 ms an exchange of rows, 1.1 ms more than the line says. As a
// rate, the last 101 MB of an exchange would have gone at 78 GB/s. What would explain it is a rate
// that falls once buffers or messages pass a size: 336 GB/s at 896 MiB, 238 at 1 GiB, a step down
// to 0.71 between them. Others saw a step of that kind (NVIDIA/nccl issue 2169: four H100, 12 to
// 15 % down past 512 MiB and for all above). Why this one is there is not known; sizes between
// 896 MiB and 1 GiB, timed one by one, would show where.
TEST_CASE("qwen3 of 32,768 tokens a rank: no latency and no bandwidth give what was measured")
{
  double const bytes_of_qwen3 = 8192. * 2048, bytes_of_dsv3 = 8192. * 7168, bytes = 32768. * 2048;
  for (double const latency : {0., 1e-6, 1e-4, 1e-2}) {
    for (double const bandwidth : {50e9, 200e9, 450e9, 900e9}) {
      auto const times_as_long = [&](double fewer_bytes) {
        LinkTier const any{latency, bandwidth};
        return any.seconds(3, bytes) / any.seconds(3, fewer_bytes) * (1 - 1e-12);
      };
      CHECK(times_as_long(bytes_of_qwen3) <= bytes / bytes_of_qwen3);
      CHECK(times_as_long(bytes_of_dsv3) <= bytes / bytes_of_dsv3);
    }
  }
  CHECK(6.82 > 1.2 * bytes / bytes_of_qwen3 * 1.34);
  CHECK(6.82 > 1.4 * bytes / bytes_of_dsv3 * 4.23);
}

TEST_CASE("flat against hierarchical over 64 to 4,096 ranks")
{
  // In a host the links above; across hosts a 400 Gbit/s adapter per rank at 5 us a message, which
  // is assumed. A device copy reads and writes 4.2 TB/s.
  auto cluster                 = nvlink(0.75);
  cluster.across_hosts         = {5e-6, 50e9};
  cluster.ranks_per_host       = 8;
  cluster.pack_bandwidth       = 2.1e12;
  auto const hierarchical_wins = [&](int P, double bytes_per_rank) {
    return hierarchical_all_to_all(cluster, P, bytes_per_rank / P).seconds <
           flat_all_to_all(cluster, P, bytes_per_rank / P).seconds;
  };
  // Small messages or many ranks: hierarchical. Large ones among few: flat.
  CHECK(hierarchical_wins(64, 1 * MiB));
  CHECK(hierarchical_wins(4096, 1 * MiB));
  CHECK(hierarchical_wins(4096, 1024 * MiB));
  CHECK_FALSE(hierarchical_wins(64, 1024 * MiB));
  CHECK_FALSE(hierarchical_wins(16, 1024 * MiB));

  // One change of winner along both axes, and the size up to which hierarchical wins only grows.
  double last = 0;
  for (int P = 64; P <= 4096; P *= 2) {
    double up_to = 0;
    bool lost    = false;
    for (double bytes = MiB / 16; bytes <= 65536 * MiB; bytes *= 2) {
      bool const wins = hierarchical_wins(P, bytes);
      CHECK_FALSE((wins && lost));
      lost = lost || !wins;
      if (wins) { up_to = bytes; }
    }
    MESSAGE(P, " ranks: hierarchical up to ", up_to / MiB, " MiB per rank");
    CHECK(lost);
    CHECK(up_to >= last);
    last = up_to;
  }
}
