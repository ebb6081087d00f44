// OneSidedExchange's rows alone, of ranks that are threads: there and home again, few and many,
// 16-byte words or not; and ranks that do not store theirs.
#include <moe/expert_parallel.hpp>
#include <moe/moe.cuh>

#include <chrono>
#include <stdexcept>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "support/rank_ends.hpp"
#include "support/rank_gpus.hpp"
#include "support/shared_gpu.hpp"

using namespace moe;
using namespace moe::test;
using std::chrono::milliseconds;

namespace {

ThreadWorldOptions const patient{.deadline = std::chrono::seconds(60)};

__device__ float value(index_t rank, index_t token, index_t d, index_t round)
{
  return static_cast<float>((rank * 7001 + token * 17 + d + round * 5) % 1048573);
}

struct FillRow {
  View<float, 2, Cuda> x;  // (T, D)
  index_t rank, round;

  template <Team G>
  __device__ void operator()(G team, index_t t) const
  {
    for (index_t d = team.lane(); d < x.extent(1); d += team.size()) {
      x(t, d) = value(rank, t, d, round);
    }
  }
};
// Rank s's token t has gone to rank r where one of its two experts, one at each rank, is r.
struct CompareArrivedRow {
  View<float const, 2, Cuda> arrived;  // (P * T, D)
  index_t ranks, tokens, rank, round;
  int* wrong;

  template <Team G>
  __device__ void operator()(G team, index_t row) const
  {
    index_t const s = row / tokens, t = row % tokens;
    bool const came = (s + t) % ranks == rank || (s + t + 1) % ranks == rank;
    for (index_t d = team.lane(); d < arrived.extent(1); d += team.size()) {
      float const expected = came ? value(s, t, d, round) : 0.f;
      if (arrived(row, d) != expected) { atomicAdd(wrong, 1); }
    }
  }
};
// The experts' output: what came, negative.
struct WorkRow {
  IndexedRows<float, Cuda> in;
  View<Id const, 1, Cuda> offsets;
  View<float, 2, Cuda> out;  // (R, D)

  template <Team G>
  __device__ void operator()(G team, index_t r) const
  {
    if (r >= offsets(offsets.extent(0) - 1)) { return; }
    for (index_t d = team.lane(); d < out.extent(1); d += team.size()) {
      out(r, d) = -in.base(in.index(r), d);
    }
  }
};
struct CompareHomeRow {
  View<float const, 2, Cuda> home;   // (most A, D)
  View<Id const, 1, Cuda> token_at;  // (A)
  index_t rank, round;
  int* wrong;

  template <Team G>
  __device__ void operator()(G team, index_t slot) const
  {
    for (index_t d = team.lane(); d < home.extent(1); d += team.size()) {
      if (home(slot, d) != -value(rank, token_at(slot), d, round)) { atomicAdd(wrong, 1); }
    }
  }
};

// All ranks have come here, on the host.
void meet(ThreadCommunicator const& comm)
{
  int x = 1;
  comm.all_reduce_sum(Host({.threads = 1}), View<int, 1, Host>(&x, 1));
}

// One rank's tokens, each with experts at two neighbouring ranks.
class Rows {
  using Exchange = OneSidedExchange<Cuda>;

 public:
  Rows(ThreadCommunicator const& comm, index_t tokens, index_t width, WindowOptions const& window)
      : comm_{comm},
        exec_{cuda_of(comm)},
        P_{comm.size()},
        tokens_{tokens},
        routing_{exec_, tokens, 2 * tokens, 2},
        plan_{exec_, SlotLayout::compact, P_, 2 * tokens, 2 * tokens},
        x_(exec_, tokens, width),
        out_(exec_, P_ * 2 * tokens, width),
        wrong_(exec_, 1),
        exchange_{{.tokens = tokens, .choices = 2 * tokens, .window = window}}
  {
    std::vector<Id> expert;
    for (index_t t = 0; t < tokens; ++t) {
      expert.push_back(static_cast<Id>((comm.rank() + t) % P_));
      expert.push_back(static_cast<Id>((comm.rank() + t + 1) % P_));
    }
    exec_.copy_from_host(
        routing_.expert.view().data_handle(), expert.data(), expert.size() * sizeof(Id));
    exec_.zero(routing_.weight.view().data_handle(), routing_.weight.bytes());
    exec_.zero(wrong_.view().data_handle(), wrong_.bytes());
    make_plan(exec_,
              SelfCommunicator{},
              Dropless{},
              RoutingShape{tokens, P_, 2},
              routing_,
              View<float const, 1, Cuda>{},
              plan_);
    exec_.synchronize();
    meet(comm);
    trip_ = exchange_.make_trip(exec_, comm_, input(), 1);
    exec_.synchronize();
    meet(comm);
  }

  void go(Leg leg, index_t round)
  {
    exec_.for_each_row(tokens_, FillRow{x_.view(), comm_.rank(), round});
    exchange_.pack(exec_, trip_, input(), x_.const_view(), 0, {leg});
    exchange_.send(exec_, comm_, trip_, 0, {leg}, {leg});
  }
  void compare_arrived(Leg leg, index_t round)
  {
    auto const rows = exchange_.rows_of(trip_, {leg});
    exec_.for_each_row(
        P_ * tokens_,
        CompareArrivedRow{
            rows.base, P_, tokens_, comm_.rank(), round, wrong_.view().data_handle()});
    exec_.for_each_row(out_.extent(0),
                       WorkRow{rows, trip_.slot->offsets.const_view(), out_.view()});
  }
  void come_home(Leg leg, index_t round)
  {
    exchange_.pack_back(exec_, trip_, input(), out_, 0, leg, {leg});
    auto const home = exchange_.make_home(exec_, trip_, x_.extent(1));
    exchange_.send_back(exec_, comm_, trip_, 0, {leg}, home);
    exec_.for_each_row(2 * tokens_,
                       CompareHomeRow{home.rows,
                                      plan_.token_at.const_view(),
                                      comm_.rank(),
                                      round,
                                      wrong_.view().data_handle()});
  }
  [[nodiscard]] int wrong()
  {
    int n = -1;
    exec_.synchronize();
    meet(comm_);  // nobody waits for anybody
    exec_.copy_to_host(&n, wrong_.const_view().data_handle(), sizeof n);
    return n;
  }
  // After what is enqueued.
  void check()
  {
    exec_.synchronize();
    trip_.slot->window.check();
  }

 private:
  [[nodiscard]] DispatchInput<float, Cuda> input() const
  {
    return {routing_.assignments(), plan_, routing_.weight.const_view(), x_.const_view()};
  }

  ThreadCommunicator comm_;
  Cuda exec_;
  index_t P_, tokens_;
  Routing<float, Cuda> routing_;
  RoutingPlan<Cuda> plan_;
  Tensor<float, 2, Cuda> x_, out_;
  Tensor<int, 1, Cuda> wrong_;
  Exchange exchange_;
  Exchange::Trip<float, Cuda> trip_{};
};

// Few rows and many; the last are not of 16-byte words.
struct Size {
  index_t tokens, width;
};
constexpr Size sizes[] = {{40, 64}, {5000, 512}, {300, 33}};

}  // namespace

TEST_CASE("rows are there, and home again, after the waits that go with their stores")
{
  for (auto const& size : sizes) {
    for (int const P : {2, 3, 4}) {
      CAPTURE(size.tokens);
      CAPTURE(P);
      ThreadWorld(P, patient).run([&](ThreadCommunicator const& comm) {
        Rows rows(comm, size.tokens, size.width, {});
        for (index_t round = 0; round < 10; ++round) {
          // x and dy have places of their own; home is read before the next rows go.
          Leg const leg = round % 2 == 0 ? Leg::forward : Leg::backward;
          rows.go(leg, round);
          rows.compare_arrived(leg, round);
          rows.come_home(leg, round);
        }
        CHECK(rows.wrong() == 0);
        CHECK_NOTHROW(rows.check());
      });
    }
  }
}

TEST_CASE("a rank that does not store its rows: a timeout that names it")
{
  for (auto const& size : sizes) {
    for (int const P : {2, 3}) {
      CAPTURE(size.tokens);
      CAPTURE(P);
      auto const end = run_to_end(ThreadWorld(P, patient), [&](ThreadCommunicator const& comm) {
        Rows rows(comm, size.tokens, size.width, {.deadline = milliseconds(600)});
        if (comm.rank() == 1) { return; }
        rows.go(Leg::forward, 0);
        rows.compare_arrived(Leg::forward, 0);  // nothing of it is out of bounds
        rows.come_home(Leg::forward, 0);
        rows.check();
      });
      CHECK(end.thrown.kind == RankEnd::timeout);
      CHECK(end.thrown.operation == "moe::Window::wait");
      CHECK(end.thrown.missing == std::vector<int>{1});
      CHECK(end.seconds < 20);
    }
  }
}

TEST_CASE("a rank that leaves by an exception while the others wait for its rows")
{
  for (auto const& size : sizes) {
    for (int const P : {2, 3}) {
      CAPTURE(size.tokens);
      CAPTURE(P);
      auto const end = run_to_end(ThreadWorld(P, patient), [&](ThreadCommunicator const& comm) {
        Rows rows(comm, size.tokens, size.width, {});
        if (comm.rank() == 1) {
          std::this_thread::sleep_for(milliseconds(50));
          throw std::runtime_error("out of luck");
        }
        rows.go(Leg::forward, 0);
        rows.check();
      });
      CHECK(end.thrown.text == "out of luck");
      CHECK(end.seconds < 30);
    }
  }
}

namespace {

void go_and_come_home(int ranks, std::vector<Size> const& some, WindowOptions const& window)
{
  for (auto const& size : some) {
    CAPTURE(size.tokens);
    CAPTURE(ranks);
    ThreadWorld(ranks, {.deadline = std::chrono::minutes(4)})
        .run([&](ThreadCommunicator const& comm) {
          Rows rows(comm, size.tokens, size.width, window);
          for (index_t round = 0; round < 4; ++round) {
            Leg const leg = round % 2 == 0 ? Leg::forward : Leg::backward;
            rows.go(leg, round);
            rows.compare_arrived(leg, round);
            rows.come_home(leg, round);
          }
          CHECK(rows.wrong() == 0);
          CHECK_NOTHROW(rows.check());
        });
  }
}

}  // namespace

// For compute-sanitizer, which may run one kernel at a time. A rank that is alone waits for its own
// stores, which are in the launch that waits.
TEST_CASE("a rank alone: stores, signals and waits in one launch" * doctest::test_suite("alone"))
{
  go_and_come_home(1, {{40, 64}, {5000, 64}, {30, 33}}, {.deadline = std::chrono::minutes(4)});
}

TEST_CASE("ranks that take turns: waits in launches of their own" * doctest::test_suite("turns"))
{
  for (int const P : {2, 3}) {
    go_and_come_home(P,
                     {{40, 64}, {30, 33}},
                     {.deadline = std::chrono::minutes(4), .one_kernel_at_a_time = true});
  }
}
