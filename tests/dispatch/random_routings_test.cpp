// Compile at -O1: many layers, little work in each.
// Random routings through worlds of 1 to 8 ranks, unequal and empty parts, experts named twice or
// not at all, drops, every exchange and several chunks: every kept (token, choice) reaches its
// expert once and comes back, and nothing else does. Numbers are small integers in double, so
// whatever is lost, doubled or mixed up shows in sums that are exact. MOE_ROUTINGS=n runs n of each
// kind.
#include <doctest/doctest.h>

#include <cstdlib>
#include <random>

#include <moe/expert_parallel.hpp>

#include "support/diagonal_expert.hpp"

using moe::Host, moe::Id, moe::index_t, moe::Tensor, moe::ThreadCommunicator, moe::ThreadWorld,
    moe::View;
using moe::test::Diagonal;

namespace {

constexpr index_t D = 3;

int routings()
{
  char const* const text = std::getenv("MOE_ROUTINGS");
  return text == nullptr ? 250 : std::atoi(text);
}

// The whole world's batch. Every rank makes the same one and takes its part.
template <int K>
struct WholeBatch {
  index_t experts, tokens = 0;
  double factor;
  std::vector<index_t> first{0};       // (P + 1)
  std::vector<Id> expert;              // (T, K)
  std::vector<double> weight, x, dy;   // (T, K), (T, D), (T, D)
  std::vector<double> scale;           // (E, D)
  std::vector<bool> kept;              // (T, K)
  std::vector<double> y, dx, d_scale;  // what must come out
  std::vector<double> d_weight;        // (T, K)

  WholeBatch(int ranks, unsigned seed, bool bounded)
  {
    std::mt19937 rng(seed);
    auto const upto = [&](index_t n) {
      return static_cast<index_t>(rng() % static_cast<unsigned>(n + 1));
    };
    auto const numbers = [&](index_t n) {
      std::vector<double> v(static_cast<std::size_t>(n));
      for (double& e : v) {
        e = static_cast<double>(upto(16)) - 8;
      }
      return v;
    };
    experts = K + upto(65 - K);
    factor  = 0.1 * static_cast<double>(1 + upto(19));
    for (int r = 0; r < ranks; ++r) {
      tokens += upto(3) == 0 ? 0 : upto(64);
      first.push_back(tokens);
    }
    index_t const popular = 1 + upto(experts - 1);  // loads are uneven, and some experts idle
    for (index_t a = 0; a < tokens * K; ++a) {
      expert.push_back(upto(9) == 0 ? moe::no_expert : static_cast<Id>(upto(popular - 1)));
    }
    weight = numbers(tokens * K);
    x      = numbers(tokens * D);
    dy     = numbers(tokens * D);
    scale  = numbers(experts * D);
    serve(bounded);
    compute();
  }

 private:
  // All first choices in token order, then all second ones.
  void serve(bool bounded)
  {
    index_t const C = bounded ? moe::DropByPosition{moe::CeilCapacity{.factor = factor}}.slots(
                                    {.tokens = tokens, .experts = experts, .top_k = K}, 0)
                              : tokens * K;
    std::vector<index_t> load(static_cast<std::size_t>(experts), 0);
    kept.assign(expert.size(), false);
    for (int k = 0; k < K; ++k) {
      for (index_t t = 0; t < tokens; ++t) {
        auto const a = static_cast<std::size_t>(t * K + k);
        if (expert[a] >= 0) { kept[a] = load[static_cast<std::size_t>(expert[a])]++ < C; }
      }
    }
  }
  void compute()
  {
    y.assign(x.size(), 0);
    dx.assign(x.size(), 0);
    d_scale.assign(scale.size(), 0);
    d_weight.assign(expert.size(), 0);
    for (std::size_t a = 0; a < expert.size(); ++a) {
      if (!kept[a]) { continue; }
      for (index_t d = 0; d < D; ++d) {
        auto const i = a / K * D + static_cast<std::size_t>(d);
        auto const s = static_cast<std::size_t>(expert[a] * D + d);
        y[i] += weight[a] * scale[s] * x[i];
        dx[i] += weight[a] * scale[s] * dy[i];
        d_scale[s] += weight[a] * x[i] * dy[i];
        d_weight[a] += scale[s] * x[i] * dy[i];
      }
    }
  }
};

// What one rank gets for its part of `b`, against what it must be.
template <int K, class CapacityT, class ScheduleT, class ExchangeT, class RowsT>
bool right_at_rank(ThreadCommunicator const& comm,
                   Host const& exec,
                   WholeBatch<K> const& b,
                   CapacityT capacity,
                   ScheduleT schedule,
                   int chunks,
                   ExchangeT exchange,
                   RowsT rows)
{
  moe::AllToAllDispatcher const dispatcher(comm, {.chunks = chunks}, schedule, exchange, rows);
  moe::Layer const layer{moe::GivenRouting<K>{}, capacity, dispatcher, Diagonal{}};
  auto params      = layer.template make_params<double>(exec, {.hidden = D, .experts = b.experts});
  auto grads       = layer.template make_params<double>(exec, params.sizes());
  auto const range = dispatcher.experts_here(b.experts);
  std::copy_n(
      b.scale.data() + range.first * D, range.count * D, params.view().experts.scale.data_handle());
  auto const at   = b.first[static_cast<std::size_t>(comm.rank())];
  index_t const T = b.first[static_cast<std::size_t>(comm.rank()) + 1] - at;
  std::vector<double> y(static_cast<std::size_t>(T * D), -1), dx(y),
      d_weight(static_cast<std::size_t>(T * K), -1);
  moe::LayerInput<double, Host> const in{
      .x            = View<double const, 2, Host>(b.x.data() + at * D, T, D),
      .given_expert = View<Id const, 2, Host>(b.expert.data() + at * K, T, K),
      .given_weight = View<double const, 2, Host>(b.weight.data() + at * K, T, K)};
  auto const saved = layer.forward(exec, params, in, View<double, 2, Host>(y.data(), T, D));
  layer.backward(exec,
                 params,
                 saved,
                 in,
                 View<double const, 2, Host>(b.dy.data() + at * D, T, D),
                 grads.view(),
                 View<double, 2, Host>(dx.data(), T, D),
                 View<double, 2, Host>(d_weight.data(), T, K));
  auto const part = [](std::vector<double> const& all, index_t from, auto const& is) {
    return std::equal(is.begin(), is.end(), all.begin() + from);
  };
  auto const scale = grads.view().experts.scale;
  std::vector<Id> dropped;
  for (index_t a = 0; a < T * K; ++a) {
    auto const i = static_cast<std::size_t>(at * K + a);
    if (b.expert[i] >= 0 && !b.kept[i]) { dropped.push_back(static_cast<Id>(a)); }
  }
  return part(b.y, at * D, y) && part(b.dx, at * D, dx) && part(b.d_weight, at * K, d_weight) &&
         part(b.d_scale,
              range.first * D,
              std::vector<double>(scale.data_handle(), scale.data_handle() + scale.size())) &&
         saved.statistics(exec).dropped == dropped;
}

// Routing i of a kind: the ways to travel take turns, half of each with drops.
template <int K, class CapacityT>
bool right_by_turns(ThreadCommunicator const& comm,
                    Host const& exec,
                    WholeBatch<K> const& b,
                    CapacityT capacity,
                    int turn)
{
  moe::BatchedSchedule const batched;
  moe::FlatExchange const flat;
  int const per_host = comm.size() % 2 == 0 ? 2 : comm.size();
  switch (turn % 7) {
    case 0:
      return right_at_rank<K>(comm, exec, b, capacity, batched, 1, flat, moe::EachChoice{});
    case 1:
      return right_at_rank<K>(comm, exec, b, capacity, batched, 3, flat, moe::EachChoice{});
    case 2:
      return right_at_rank<K>(
          comm, exec, b, capacity, moe::SerialSchedule{}, 1, flat, moe::OncePerRank{});
    case 3:
      return right_at_rank<K>(comm, exec, b, capacity, batched, 2, flat, moe::OncePerRank{});
    case 4:
      return right_at_rank<K>(comm,
                              exec,
                              b,
                              capacity,
                              batched,
                              1 + turn / 7 % 2,
                              moe::HierarchicalExchange(comm, per_host),
                              moe::OncePerRank{});
    case 5:
      return right_at_rank<K>(
          comm, exec, b, capacity, batched, 1, moe::AllGatherExchange{}, moe::EachChoice{});
    default:
      return right_at_rank<K>(comm,
                              exec,
                              b,
                              capacity,
                              batched,
                              1 + turn / 7 % 3,
                              moe::OneSidedExchange<Host>({.tokens = 64, .choices = 64 * K}),
                              moe::EachChoice{});
  }
}

template <int K>
void check_routings()
{
  for (int ranks = 1; ranks <= 8; ++ranks) {
    std::vector<std::vector<int>> wrong(static_cast<std::size_t>(ranks));
    ThreadWorld(ranks, {.deadline = std::chrono::minutes(2)})
        .run([&](ThreadCommunicator const& comm) {
          Host const exec({.threads = 1, .products = moe::Products::own});
          for (int i = 0; i < routings(); ++i) {
            auto const seed    = static_cast<unsigned>((i * 8 + ranks) * 64 + K);
            bool const bounded = i % 2 == 1;
            WholeBatch<K> const b(ranks, seed, bounded);
            moe::DropByPosition const capacity{moe::CeilCapacity{.factor = b.factor}};
            bool const right = bounded ? right_by_turns<K>(comm, exec, b, capacity, i / 2)
                                       : right_by_turns<K>(comm, exec, b, moe::Dropless{}, i / 2);
            if (!right) { wrong[static_cast<std::size_t>(comm.rank())].push_back(i); }
          }
        });
    CAPTURE(ranks);
    for (auto const& of_rank : wrong) {
      CHECK(of_rank == std::vector<int>{});
    }
  }
}

}  // namespace

TEST_CASE("one choice")
{
  check_routings<1>();
}
TEST_CASE("two choices")
{
  check_routings<2>();
}
TEST_CASE("eight choices")
{
  check_routings<8>();
}
