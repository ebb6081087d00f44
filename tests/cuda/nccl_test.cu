// NCCL's communicator on GPUs: a world of one, and processes.
#include "support/nccl_loss.hpp"

using namespace moe;
using namespace moe::test;

namespace {

// -- one rank --

template <class T>
struct Buffer {
  Buffer(Cuda const& space, std::vector<T> const& values)
      : exec{space}, n{values.size()}, data{static_cast<T*>(exec.allocate(n * sizeof(T) + 1))}
  {
    exec.copy_from_host(data, values.data(), n * sizeof(T));
  }
  Buffer(Buffer const&)            = delete;
  Buffer& operator=(Buffer const&) = delete;
  ~Buffer() { exec.deallocate(data, n * sizeof(T) + 1); }
  [[nodiscard]] View<T, 1, Cuda> view() const { return View<T, 1, Cuda>(data, n); }
  [[nodiscard]] std::vector<double> values() const
  {
    std::vector<T> all(n);
    exec.copy_to_host(all.data(), data, n * sizeof(T));
    std::vector<double> numbers;
    for (T const x : all) {
      numbers.push_back(static_cast<double>(x));
    }
    return numbers;
  }
  Cuda exec;
  std::size_t n;
  T* data;
};

// Small whole numbers, exact in every type.
double number(int rank, index_t i)
{
  return static_cast<double>((7 * rank + 3 * i) % 11);
}
template <class T>
std::vector<T> numbers(int rank, index_t n)
{
  std::vector<T> all;
  for (index_t i = 0; i < n; ++i) {
    if constexpr (sizeof(T) == 2) {
      all.push_back(T(static_cast<float>(number(rank, i))));
    } else {
      all.push_back(static_cast<T>(number(rank, i)));
    }
  }
  return all;
}

template <class T, class CommT>
void check_collectives(Cuda const& exec, CommT const& comm)
{
  int const P = comm.size(), me = comm.rank();
  for (index_t const n : {index_t{1}, index_t{1000}}) {
    CAPTURE(n);
    auto const whole = numbers<T>(me, n * P);
    auto const part  = numbers<T>(me, n);
    std::vector<T> const empty(static_cast<std::size_t>(n * P)),
        empty_part(static_cast<std::size_t>(n));
    Buffer<T> const x(exec, whole), send(exec, whole), send_part(exec, part);
    Buffer<T> const gathered(exec, empty), received(exec, empty), sum(exec, empty_part);
    comm.all_reduce_sum(exec, x.view());
    comm.all_gather(exec, send_part.view(), gathered.view());
    comm.reduce_scatter_sum(exec, send.view(), sum.view());
    comm.all_to_all(exec, send.view(), received.view());
    comm.wait(exec);
    std::vector<double> all, mine, from_each, to_me;
    for (index_t i = 0; i < n * P; ++i) {
      double total = 0;
      for (int r = 0; r < P; ++r) {
        total += number(r, i);
      }
      all.push_back(total);
      if (i / n == me) { mine.push_back(total); }
      from_each.push_back(number(static_cast<int>(i / n), i % n));
      to_me.push_back(number(static_cast<int>(i / n), me * n + i % n));
    }
    CHECK(x.values() == all);
    CHECK(sum.values() == mine);
    CHECK(gathered.values() == from_each);
    CHECK(received.values() == to_me);
  }
}

// Elements that go from one rank to another: some pairs send nothing, one way or both.
index_t between(int from, int to)
{
  return 100 * ((from * 5 + to * 3) % 4);
}

template <class T, class CommT>
void check_ragged(Cuda const& exec, CommT const& comm)
{
  int const P = comm.size(), me = comm.rank();
  std::vector<index_t> to, to_at, from, from_at;
  index_t sent = 0, came = 0;
  std::vector<double> expected;
  for (int r = 0; r < P; ++r) {
    to.push_back(between(me, r));
    to_at.push_back(sent);
    sent += to.back();
    from.push_back(between(r, me));
    from_at.push_back(came);
    came += from.back();
    index_t before = 0;  // of rank r's blocks
    for (int q = 0; q < me; ++q) {
      before += between(r, q);
    }
    for (index_t i = 0; i < from.back(); ++i) {
      expected.push_back(number(r, before + i));
    }
  }
  Buffer<T> const send(exec, numbers<T>(me, sent));
  Buffer<T> const receive(exec, std::vector<T>(static_cast<std::size_t>(came)));
  comm.all_to_all_v(exec, send.view(), {to, to_at}, receive.view(), {from, from_at});
  comm.wait(exec);
  CHECK(receive.values() == expected);
}

template <class CommT>
void check_all(Cuda const& exec, CommT const& comm)
{
  check_collectives<Id>(exec, comm);
  check_collectives<index_t>(exec, comm);
  check_collectives<float>(exec, comm);
  check_collectives<double>(exec, comm);
  check_collectives<Half>(exec, comm);
  check_collectives<BFloat16>(exec, comm);
  check_ragged<Id>(exec, comm);
  check_ragged<BFloat16>(exec, comm);
}

}  // namespace

TEST_CASE("a world of one")
{
  Cuda const exec;
  NcclCommunicator const comm({}, 0, 1);
  check_all(exec, comm);
  check_all(exec, comm.split(0, 0));
  CHECK(comm.handle() == nullptr);
}

TEST_CASE("rank of a world" * doctest::skip())
{
  ProcessRank const me({.deadline = std::chrono::seconds(60)});
  auto const& [rank, size, exec, comm] = me;
  CHECK(comm.rank() == rank);
  CHECK(comm.size() == size);
  check_all(exec, comm);
  {
    auto const group = comm.split(rank % 2, -rank);
    CHECK(group.size() == size / 2);
    CHECK(group.rank() == size / 2 - 1 - rank / 2);
    check_all(exec, group);
  }
  NcclCommunicatorRef const same(comm.handle());
  CHECK(same.rank() == rank);
  check_ragged<float>(exec, same);
  check_all(exec, comm);
}

TEST_CASE("worlds of two and four processes")
{
  for (int const P : {2, 4}) {
    CAPTURE(P);
    CHECK(run_processes(P, "rank of a world") == std::vector<int>(static_cast<std::size_t>(P), 0));
  }
}

namespace {

void check_sum_without_last(int signal)
{
  ProcessRank const me(loss_options);
  Buffer<float> const x(me.exec, numbers<float>(me.rank, 1000));
  check_loss_of_last(me, signal, [&] {
    me.comm.all_reduce_sum(me.exec, x.view());
    me.comm.wait(me.exec);
  });
  CHECK(x.values().size() == 1000);
}

}  // namespace

TEST_CASE("rank of a world that loses one" * doctest::skip())
{
  check_sum_without_last(SIGKILL);
}
TEST_CASE("rank of a world that stops one" * doctest::skip())
{
  check_sum_without_last(SIGSTOP);
}

TEST_CASE("a process that is killed, and one that stands still, end the others' waits")
{
  check_ends_of_two("rank of a world that loses one", "rank of a world that stops one");
  CHECK(run_processes(3, "rank of a world that stops one") == std::vector<int>{0, 0, stopped});
}
