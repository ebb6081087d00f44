// What the cost model says of flat, hierarchical and overlapped exchanges over 64 to 4,096 ranks,
// as CSV on the standard output; plot_exchange.py draws it. Nothing is measured here.
#include <algorithm>
#include <cstdio>
#include <initializer_list>

#include <moe/comm/cost_model.hpp>

namespace {

constexpr double MiB = 1024. * 1024.;

// In a host what NCCL's all-to-all reached between four H200: 318 GB/s of what leaves a rank at
// 128 MiB per rank, 345 at 512. Across hosts one adapter of 400 Gbit/s per rank and 5 us a message,
// which is assumed. Packing copies at half of a device copy's 4.2 TB/s, which are read + written.
moe::Cluster cluster()
{
  double const small = 128 * MiB * 3 / 4, large = 512 * MiB * 3 / 4;
  return {.in_host        = moe::tier_through({3, small, small / 318e9}, {3, large, large / 345e9}),
          .across_hosts   = {5e-6, 50e9},
          .ranks_per_host = 8,
          .pack_bandwidth = 2.1e12};
}

// Forward of gated experts of F = 2,048 in bf16: 6 D F operations for 2 D bytes, at 400 TFLOP/s.
double compute_seconds(double bytes)
{
  return bytes * 3 * 2048 / 400e12;
}

}  // namespace

int main()
{
  auto const links = cluster();
  std::printf(
      "ranks,bytes_per_rank,flat_messages,hierarchical_messages,flat_s,hierarchical_s,"
      "compute_s,serial_s,chunks,overlapped_s\n");
  for (int P = 64; P <= 4096; P *= 2) {
    for (double bytes = MiB / 4; bytes <= 8192 * MiB; bytes *= 2) {
      auto const flat         = moe::flat_all_to_all(links, P, bytes / P);
      auto const hierarchical = moe::hierarchical_all_to_all(links, P, bytes / P);
      double const compute    = compute_seconds(bytes);
      double const serial     = std::min(flat.seconds, hierarchical.seconds) + compute;
      int best_chunks         = 1;
      double best             = serial;
      for (int const n : {2, 4, 8, 16, 32}) {
        double const chunk   = bytes / n / P;
        double const seconds = std::min(moe::flat_all_to_all(links, P, chunk).seconds,
                                        moe::hierarchical_all_to_all(links, P, chunk).seconds);
        double const all     = moe::overlapped(n, seconds, compute / n).seconds;
        if (all < best) {
          best        = all;
          best_chunks = n;
        }
      }
      std::printf("%d,%.0f,%lld,%lld,%.6e,%.6e,%.6e,%.6e,%d,%.6e\n",
                  P,
                  bytes,
                  static_cast<long long>(flat.messages()),
                  static_cast<long long>(hierarchical.messages()),
                  flat.seconds,
                  hierarchical.seconds,
                  compute,
                  serial,
                  best_chunks,
                  best);
    }
  }
}
