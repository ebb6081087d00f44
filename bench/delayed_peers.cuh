#pragma once
// A rank whose peers are not there: a communicator that answers as they would, and an exchange that
// takes their time.
#include <algorithm>
#include <cstddef>
#include <type_traits>

#include <moe/expert_parallel.hpp>
#include <moe/moe.cuh>

namespace moe_bench::ep {

using moe::Cuda;
using moe::index_t;

// Four ranks with this one's numbers: a peer sends me what I send to it.
class MirrorCommunicator {
 public:
  static constexpr int rank() { return 0; }
  static constexpr int size() { return 4; }

  template <class ExecT, moe::SumElement T>
  void all_reduce_sum(ExecT const&, moe::View<T, 1, ExecT>) const
  {
  }
  template <class ExecT, moe::TransferElement T>
  void all_gather(ExecT const& exec,
                  std::type_identity_t<moe::View<T const, 1, ExecT>> send,
                  moe::View<T, 1, ExecT> receive) const
  {
    for (int r = 0; r < size(); ++r) {
      exec.copy(receive.data_handle() + r * send.size(), send.data_handle(), bytes<T>(send.size()));
    }
  }
  template <class ExecT, moe::SumElement T>
  void reduce_scatter_sum(ExecT const& exec,
                          std::type_identity_t<moe::View<T const, 1, ExecT>> send,
                          moe::View<T, 1, ExecT> receive) const
  {
    exec.copy(receive.data_handle(), send.data_handle(), bytes<T>(receive.size()));
  }
  template <class ExecT, moe::TransferElement T>
  void all_to_all(ExecT const& exec,
                  std::type_identity_t<moe::View<T const, 1, ExecT>> send,
                  moe::View<T, 1, ExecT> receive) const
  {
    exec.copy(receive.data_handle(), send.data_handle(), bytes<T>(send.size()));
  }
  template <class ExecT, moe::TransferElement T>
  void all_to_all_v(ExecT const& exec,
                    std::type_identity_t<moe::View<T const, 1, ExecT>> send,
                    moe::RankBlocks const& from,
                    moe::View<T, 1, ExecT> receive,
                    moe::RankBlocks const& to) const
  {
    for (std::size_t r = 0; r < static_cast<std::size_t>(size()); ++r) {
      exec.copy(receive.data_handle() + to.offsets[r],
                send.data_handle() + from.offsets[r],
                bytes<T>(std::min(to.counts[r], from.counts[r])));
    }
  }
  [[nodiscard]] MirrorCommunicator split(int, int) const { return {}; }

 private:
  template <class T>
  static std::size_t bytes(index_t n)
  {
    return static_cast<std::size_t>(n) * sizeof(T);
  }
};
static_assert(moe::ExchangeCommunicator<MirrorCommunicator, Cuda, moe::BFloat16>);

static __global__ void delay_kernel(unsigned long long nanoseconds)
{
  unsigned long long start = 0, now = 0;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(start));
  do {
    __nanosleep(200);
    asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
  } while (now - start < nanoseconds);
}
inline void delay(Cuda const& exec, double seconds)
{
  if (seconds <= 0) { return; }
  delay_kernel<<<1, 1, 0, exec.stream()>>>(static_cast<unsigned long long>(seconds * 1e9));
  MOE_CUDA_TRY(cudaGetLastError());
}

// `seconds` for `rows`, one way; fewer take their share. Numbers, one for each row, are copied and
// take no time: they are few, and weights have to be weights.
class DelayExchange {
 public:
  struct Route {};

  DelayExchange(double seconds, index_t rows) : per_row_{seconds / static_cast<double>(rows)} {}

  template <class ExecT, class CommT>
  [[nodiscard]] Route make_route(ExecT const&, CommT const&, moe::RowBlocks const&) const
  {
    return {};
  }
  template <class ExecT, class CommT, class T>
  void to_experts(ExecT const& exec,
                  CommT const& comm,
                  moe::RowBlocks const& blocks,
                  Route const&,
                  index_t width,
                  std::type_identity_t<moe::View<T const, 1, ExecT>> send,
                  moe::View<T, 1, ExecT> receive) const
  {
    travel(exec, comm, blocks.rows_sent(), width, send, blocks.out(), receive, blocks.in());
  }
  template <class ExecT, class CommT, class T>
  void to_tokens(ExecT const& exec,
                 CommT const& comm,
                 moe::RowBlocks const& blocks,
                 Route const&,
                 index_t width,
                 std::type_identity_t<moe::View<T const, 1, ExecT>> send,
                 moe::View<T, 1, ExecT> receive) const
  {
    travel(exec, comm, blocks.rows_received(), width, send, blocks.in(), receive, blocks.out());
  }

 private:
  template <class ExecT, class CommT, class T>
  void travel(ExecT const& exec,
              CommT const& comm,
              index_t rows,
              index_t width,
              moe::View<T const, 1, ExecT> send,
              moe::RankBlocks const& from,
              moe::View<T, 1, ExecT> receive,
              moe::RankBlocks const& to) const
  {
    auto const phase = exec.phase(moe::Phase::communication);
    if (width == 1) {
      comm.all_to_all_v(exec, send, from, receive, to);
    } else {
      delay(exec, per_row_ * static_cast<double>(rows));
    }
  }

  double per_row_;
};

}  // namespace moe_bench::ep
