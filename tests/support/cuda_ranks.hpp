#pragma once
// A rank of a ThreadWorld with a GPU: its buffers, every collective on them, and streams that run
// late. Contents are made and compared on the GPU, so that no host waits between collectives.
#include <moe/moe.cuh>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "support/rank_ends.hpp"
#include "support/space.hpp"

namespace moe::test {

inline ThreadWorldOptions const long_deadline{.deadline = std::chrono::seconds(60)};

static __global__ void spin_kernel(unsigned long long nanoseconds)
{
  unsigned long long start = 0, now = 0;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(start));
  do {
    asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
  } while (now - start < nanoseconds);
}
// What is enqueued next comes this much later.
inline void delay(Cuda const& exec, double milliseconds)
{
  spin_kernel<<<1, 1, 0, exec.stream()>>>(static_cast<unsigned long long>(milliseconds * 1e6));
  MOE_CUDA_TRY(cudaGetLastError());
}

// What rank r has at i in a round: small integers, or reals whose sums depend on their order.
template <class T>
__device__ T value(int r, index_t round, index_t i)
{
  auto const n = (r * 31 + i * 7 + round * 13 + 3) % 19;
  if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(n);
  } else {
    return static_cast<T>(static_cast<float>(n) / 7.f - 1.f);
  }
}
template <class T>
struct Block {  // of rank r's values, from `first` on
  int r;
  index_t round, first;
  __device__ T operator()(index_t i) const { return value<T>(r, round, first + i); }
};
template <class T>
struct Sum {
  int ranks;
  index_t round, first;
  __device__ T operator()(index_t i) const
  {
    using S = std::conditional_t<std::is_integral_v<T>, std::int64_t, accumulator_t<T>>;
    S sum   = static_cast<S>(value<T>(0, round, first + i));
    for (int r = 1; r < ranks; ++r) {
      sum = static_cast<S>(sum + static_cast<S>(value<T>(r, round, first + i)));
    }
    return static_cast<T>(sum);
  }
};

template <class T, class ValueT>
struct FillRow {
  T* to;
  ValueT value_at;
  template <Team G>
  __device__ void operator()(G team, index_t i) const
  {
    if (team.lane() == 0) { to[i] = value_at(i); }
  }
};
template <class T, class ValueT>
struct CompareRow {
  T const* got;
  ValueT value_at;
  int* wrong;
  template <Team G>
  __device__ void operator()(G team, index_t i) const
  {
    if (team.lane() != 0) { return; }
    T const expected = value_at(i);
    auto const* a    = reinterpret_cast<unsigned char const*>(got + i);
    auto const* b    = reinterpret_cast<unsigned char const*>(&expected);
    bool same        = true;
    for (std::size_t k = 0; k < sizeof(T); ++k) {
      same = same && a[k] == b[k];
    }
    if (!same) { atomicAdd(wrong, 1); }
  }
};

// One rank's buffers, on one stream.
template <class T>
struct Buffers {
  Buffers(Cuda const& e, ThreadCommunicator const& comm, index_t most)
      : exec{e},
        P{comm.size()},
        me{comm.rank()},
        send(exec, P * most + P),
        receive(exec, P * most + P),
        wrong(exec, 1)
  {
    exec.zero(wrong.view().data_handle(), sizeof(int));
  }
  template <class ValueT>
  void fill(View<T, 1, Cuda> to, ValueT const& v)
  {
    exec.for_each_row(to.size(), FillRow<T, ValueT>{to.data_handle(), v});
  }
  template <class ValueT>
  void compare(T const* got, index_t n, ValueT const& v)
  {
    exec.for_each_row(n, CompareRow<T, ValueT>{got, v, wrong.view().data_handle()});
  }
  [[nodiscard]] View<T, 1, Cuda> sent(index_t n)
  {
    return View<T, 1, Cuda>(send.view().data_handle(), n);
  }
  [[nodiscard]] View<T, 1, Cuda> received(index_t n)
  {
    return View<T, 1, Cuda>(receive.view().data_handle(), n);
  }
  [[nodiscard]] int mistakes() { return get(exec, wrong.const_view())[0]; }

  void all_reduce(ThreadCommunicator const& comm, index_t round, index_t n)
  {
    fill(received(n), Block<T>{me, round, 0});
    comm.all_reduce_sum(exec, received(n));
    compare(receive.view().data_handle(), n, Sum<T>{P, round, 0});
  }
  void all_gather(ThreadCommunicator const& comm, index_t round, index_t n)
  {
    fill(sent(n), Block<T>{me, round, 0});
    comm.all_gather(exec, sent(n), received(P * n));
    spoil();
    for (int r = 0; r < P; ++r) {
      compare(receive.view().data_handle() + r * n, n, Block<T>{r, round, 0});
    }
  }
  void reduce_scatter(ThreadCommunicator const& comm, index_t round, index_t n)
  {
    fill(sent(P * n), Block<T>{me, round, 0});
    comm.reduce_scatter_sum(exec, sent(P * n), received(n));
    spoil();
    compare(receive.view().data_handle(), n, Sum<T>{P, round, me * n});
  }
  void all_to_all(ThreadCommunicator const& comm, index_t round, index_t n)
  {
    fill(sent(P * n), Block<T>{me, round, 0});
    comm.all_to_all(exec, sent(P * n), received(P * n));
    spoil();
    for (int r = 0; r < P; ++r) {
      compare(receive.view().data_handle() + r * n, n, Block<T>{r, round, me * n});
    }
  }
  // Unequal counts, zeros among them; an element of no block behind each block of receive.
  void all_to_all_v(ThreadCommunicator const& comm, index_t round, index_t n)
  {
    auto const count  = [&](int from, int to) { return (from * 5 + to * 3 + round) % 4 * n / 4; };
    auto const starts = [&](int from, int to) {
      index_t at = 0;
      for (int r = 0; r < to; ++r) {
        at += count(from, r);
      }
      return at;
    };
    std::vector<index_t> counts, offsets, into_counts, into_offsets;
    index_t end = 0;
    for (int r = 0; r < P; ++r) {
      counts.push_back(count(me, r));
      offsets.push_back(starts(me, r));
      into_counts.push_back(count(r, me));
      into_offsets.push_back(end);
      end += count(r, me) + 1;
    }
    fill(sent(starts(me, P)), Block<T>{me, round, 0});
    fill(received(end), Block<T>{99, round, 0});
    comm.all_to_all_v(
        exec, sent(starts(me, P)), {counts, offsets}, received(end), {into_counts, into_offsets});
    spoil();
    for (int r = 0; r < P; ++r) {
      auto const i      = static_cast<std::size_t>(r);
      index_t const gap = into_offsets[i] + into_counts[i];
      T const* const at = receive.view().data_handle();
      compare(at + into_offsets[i], into_counts[i], Block<T>{r, round, starts(r, me)});
      compare(at + gap, 1, Block<T>{99, round, gap});
    }
  }
  void all_collectives(ThreadCommunicator const& comm, index_t round, index_t n)
  {
    all_reduce(comm, round, n);
    all_gather(comm, round + 1, n);
    reduce_scatter(comm, round + 2, n);
    all_to_all(comm, round + 3, n);
    all_to_all_v(comm, round + 4, n);
  }

  Cuda exec;
  int P, me;
  Tensor<T, 1, Cuda> send, receive;
  Tensor<int, 1, Cuda> wrong;

 private:
  // A send buffer is the rank's own again when the collective has returned, in stream order.
  void spoil() { exec.zero(send.view().data_handle(), send.bytes()); }
};

}  // namespace moe::test
