// Compile at -O1: many layers, little work in each.
// Routing that looks at the tokens of all ranks, or that a rank decides alone: expert choice,
// capacity per rank and shared by a rank's experts, the selection bias.
#include <doctest/doctest.h>

#include <cstring>
#include <memory_resource>

#include "support/rank_world.hpp"

using moe::Host, moe::Id, moe::index_t, moe::ThreadCommunicator, moe::ThreadWorld, moe::View;
using moe::test::Batch, moe::test::RankPass, moe::test::run_rank, moe::test::same_bits,
    moe::test::TokenRange, moe::test::view_values;
using namespace moe::test::ranks;

namespace {

using Router = moe::SoftmaxTopK<2, moe::renormalized>;

// Memory that says expert 0, token 0, slot 0 wherever nothing was written.
struct Zeros : std::pmr::memory_resource {
  void* do_allocate(std::size_t bytes, std::size_t alignment) override
  {
    void* const p = std::pmr::new_delete_resource()->allocate(bytes, alignment);
    return std::memset(p, 0, bytes);
  }
  void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) override
  {
    std::pmr::new_delete_resource()->deallocate(p, bytes, alignment);
  }
  [[nodiscard]] bool do_is_equal(memory_resource const& other) const noexcept override
  {
    return this == &other;
  }
};
Host zeroed()
{
  static Zeros zeros;
  return Host({.threads = 1, .resource = &zeros, .products = moe::Products::own});
}

// Composes the layer around a dispatcher.
template <class RouterT, class CapacityT>
struct Composed {
  RouterT router;
  CapacityT capacity;

  template <class DispatcherT>
  auto operator()(DispatcherT const& dispatcher) const
  {
    return moe::Layer{router,
                      capacity,
                      dispatcher,
                      moe::Ffn<moe::SwiGlu>{},
                      moe::SwitchLoss{.coeff = 1e-1},
                      moe::RouterZLoss{.coeff = 1e-1}};
  }
};
using Choice = Composed<moe::ExpertChoice, moe::Dropless>;

moe::BatchedDispatcher<moe::BatchedSchedule> const local;  // compact slots, as rows arrive in

template <class T, class RowsT = moe::EachChoice, class MakeT>
std::vector<RankPass<T>> passes_of(MakeT const& make,
                                   Batch<T> const& whole,
                                   std::vector<TokenRange> const& parts)
{
  std::vector<RankPass<T>> passes(parts.size());
  ThreadWorld(static_cast<int>(parts.size()), {.deadline = std::chrono::seconds(60)})
      .run([&](ThreadCommunicator const& comm) {
        moe::AllToAllDispatcher const dispatcher(
            comm, {}, moe::BatchedSchedule{}, moe::FlatExchange{}, RowsT{});
        auto const r = static_cast<std::size_t>(comm.rank());
        passes[r]    = run_rank<T>(make(dispatcher),
                                zeroed(),
                                whole,
                                parts[r],
                                dispatcher.experts_here(whole.sizes.experts));
      });
  return passes;
}

template <class T, class MakeT>
RankPass<T> pass_of_one(MakeT const& make, Batch<T> const& whole, TokenRange part)
{
  return run_rank<T>(make(local), own(), whole, part, {0, whole.sizes.experts});
}

// What the ranks have together, as one rank would have it; sums over ranks are rank 0's.
template <class T>
RankPass<T> together(std::vector<RankPass<T>> const& passes, std::vector<TokenRange> const& parts)
{
  RankPass<T> all;
  all.gate_grads = passes[0].gate_grads;
  all.losses     = passes[0].losses;
  all.loads      = passes[0].loads;
  all.loads.dropped.clear();
  for (std::size_t r = 0; r < passes.size(); ++r) {
    auto const& p    = passes[r];
    all.y            = joined(all.y, p.y);
    all.evaluated    = joined(all.evaluated, p.evaluated);
    all.dx           = joined(all.dx, p.dx);
    all.expert_grads = joined(all.expert_grads, p.expert_grads);
    for (Id const a : p.loads.dropped) {
      all.loads.dropped.push_back(static_cast<Id>(a + parts[r].first * 2));
    }
    CHECK(p.loads.tokens_per_expert == all.loads.tokens_per_expert);
    CHECK(same_bits(p.gate_grads, all.gate_grads));
    CHECK(same_bits(p.losses, all.losses));
  }
  return all;
}

template <class V>
void check_near(V const& a, V const& b)
{
  REQUIRE(a.size() == b.size());
  double error = 0, norm = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    error += (double(a[i]) - double(b[i])) * (double(a[i]) - double(b[i]));
    norm += double(b[i]) * double(b[i]);
  }
  CHECK(norm > 0);
  CHECK(error <= 1e-10 * norm);
}

// Returns what one rank gives, and checks that the parts give the same.
template <class T, class RowsT = moe::EachChoice, class MakeT>
RankPass<T> check_parts(MakeT const& make,
                        Batch<T> const& whole,
                        std::vector<TokenRange> const& parts)
{
  auto const one    = pass_of_one<T>(make, whole, {0, whole.tokens});
  auto const passes = passes_of<T, RowsT>(make, whole, parts);
  auto const all    = together(passes, parts);
  CHECK(same_bits(all.y, one.y));
  CHECK(same_bits(all.evaluated, one.evaluated));
  CHECK(same_bits(all.dx, one.dx));
  CHECK(same_bits(all.expert_grads, one.expert_grads));
  CHECK(all.loads.tokens_per_expert == one.loads.tokens_per_expert);
  CHECK(all.loads.dropped == one.loads.dropped);
  check_near(all.gate_grads, one.gate_grads);
  check_near(all.losses, one.losses);
  CHECK(passes == passes_of<T, RowsT>(make, whole, parts));
  return one;
}

// Numbers off the grid: no ties, so that a small step changes no decision.
Batch<double> smooth_batch(unsigned seed)
{
  auto whole = batch<double>(seed);
  std::mt19937 rng(seed);
  std::uniform_real_distribution<double> noise(-0.05, 0.05);
  for (auto* numbers : {&whole.x, &whole.params}) {
    for (double& v : *numbers) {
      v += noise(rng);
    }
  }
  return whole;
}

// The ranks' gradients together against the slope of the sum over all ranks.
template <class MakeT>
void check_slope(MakeT const& make, std::vector<TokenRange> const& parts, unsigned seed)
{
  auto const at        = smooth_batch(seed);
  auto const objective = [&](Batch<double> const& b) {
    auto const all = together(passes_of<double>(make, b, parts), parts);
    double sum     = 0;
    for (std::size_t i = 0; i < all.y.size(); ++i) {
      sum += all.y[i] * b.dy[i];
    }
    for (double const loss : all.losses) {
      sum += loss;
    }
    return sum;
  };
  auto const gradient = together(passes_of<double>(make, at, parts), parts);
  auto const inner    = [](std::vector<double> const& a, std::vector<double> const& b) {
    REQUIRE(a.size() == b.size());
    double sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
      sum += a[i] * b[i];
    }
    return sum;
  };
  std::mt19937 rng(seed + 1);
  std::uniform_real_distribution<double> number(-1, 1);
  for (int i = 0; i < 6; ++i) {  // x alone, parameters alone, both
    CAPTURE(i);
    auto along = at;
    for (double& v : along.x) {
      v = i % 3 == 1 ? 0 : number(rng);
    }
    for (double& v : along.params) {
      v = i % 3 == 0 ? 0 : number(rng);
    }
    auto const views      = along.param_views(make(local));
    double const expected = inner(gradient.dx, along.x) +
                            inner(gradient.gate_grads, view_values(views.gate.w)) +
                            inner(gradient.expert_grads, moe::test::values_by_expert(views));
    auto const moved = [&](double h) {
      auto b = at;
      for (std::size_t j = 0; j < b.x.size(); ++j) {
        b.x[j] += h * along.x[j];
      }
      for (std::size_t j = 0; j < b.params.size(); ++j) {
        b.params[j] += h * along.params[j];
      }
      return objective(b);
    };
    double const h     = 1e-5;
    double const slope = (moved(h) - moved(-h)) / (2 * h);
    CHECK(std::abs(slope - expected) <= 1e-6 * std::max(1.0, std::abs(expected)));
  }
}

}  // namespace

TEST_CASE("expert choice over all tokens: the bits of one rank")
{
  auto const whole = batch<float>(21);
  for (int const ranks : {1, 2, 3, 4, 8}) {
    CAPTURE(ranks);
    for (double const factor : {0.3, 1.5, 6.0}) {  // 6: every expert takes every token
      CAPTURE(factor);
      Choice const make{{.factor = factor}, {}};
      auto const one = check_parts<float>(make, whole, even_parts(ranks));
      (void)check_parts<float>(make, whole, odd_parts(ranks));
      auto const C = static_cast<Id>(make.router.slots(tokens, sizes.experts));
      CHECK(one.loads.tokens_per_expert == std::vector<Id>(6, C));
    }
  }
}

TEST_CASE("expert choice among equal scores: the first tokens of all ranks")
{
  auto whole = batch<float>(22);
  for (std::size_t i = 0; i < whole.x.size(); ++i) {  // three different rows, in turn
    whole.x[i] = whole.x[i % static_cast<std::size_t>(3 * sizes.hidden)];
  }
  for (int const ranks : {2, 3, 8}) {
    CAPTURE(ranks);
    Choice const make{{.factor = 1.5}, {}};
    (void)check_parts<float>(make, whole, even_parts(ranks));
    (void)check_parts<float>(make, whole, odd_parts(ranks));
  }
}

TEST_CASE("expert choice takes no masked token, though one rank has no other")
{
  auto whole = batch<float>(23);
  whole.mask.assign(static_cast<std::size_t>(tokens), 1);
  for (std::size_t t = 0; t < whole.mask.size(); ++t) {
    if (t % 3 == 0 || t < 20) { whole.mask[t] = 0; }
  }
  for (double const factor : {1.0, 6.0}) {  // 6: more slots than tokens that take part
    CAPTURE(factor);
    Choice const make{{.factor = factor}, {}};
    (void)check_parts<float>(make, whole, even_parts(3));
    (void)check_parts<float>(make, whole, odd_parts(4));
  }
}

TEST_CASE("expert choice, a token's row sent once to each rank")
{
  auto const whole = batch<float>(31);
  for (int const ranks : {2, 3, 8}) {
    CAPTURE(ranks);
    for (double const factor : {0.3, 3.0}) {
      Choice const make{{.factor = factor}, {}};
      (void)check_parts<float, moe::OncePerRank>(make, whole, even_parts(ranks));
      (void)check_parts<float, moe::OncePerRank>(make, whole, odd_parts(ranks));
    }
  }
}

TEST_CASE("expert choice where no rank has a token")
{
  auto const whole  = batch<float>(24).rows({});
  auto const passes = passes_of<float>(Choice{}, whole, {{0, 0}, {0, 0}});
  CHECK(passes[0].y.empty());
  CHECK(passes[0].loads.tokens_per_expert == std::vector<Id>(6, 0));
}

TEST_CASE("the gradient over ranks of expert choice")
{
  check_slope(Choice{{.factor = 1.5}, {}}, even_parts(3), 25);
  check_slope(Choice{{.factor = 0.7}, {}}, odd_parts(4), 26);
}

TEST_CASE("slots that a rank's experts share: the bits of one rank")
{
  auto const whole = batch<double>(27);
  for (int const ranks : {1, 2, 3, 8}) {
    CAPTURE(ranks);
    moe::RankCapacity const capacity{moe::DropByWeight{moe::CeilCapacity{.factor = 0.8}}, ranks};
    Composed<Router, std::decay_t<decltype(capacity)>> const make{{}, capacity};
    auto const one = check_parts<double>(make, whole, even_parts(ranks));
    (void)check_parts<double>(make, whole, odd_parts(ranks));
    CHECK(one.loads.dropped.size() > 10);
  }
  moe::RankCapacity const capacity{moe::DropByWeight{moe::CeilCapacity{.factor = 0.8}}};
  check_slope(Composed<Router, std::decay_t<decltype(capacity)>>{{}, capacity}, odd_parts(3), 28);
}

TEST_CASE("capacity per rank: each rank drops what it would drop alone")
{
  moe::DropByWeight const alone{moe::CeilCapacity{.factor = 0.8}};
  moe::PerRank const capacity{alone};
  Composed<Router, std::decay_t<decltype(alone)>> const make_alone{{}, alone};
  Composed<Router, std::decay_t<decltype(capacity)>> const make{{}, capacity};
  auto const whole = batch<double>(29);
  (void)check_parts<double>(make, whole, even_parts(1));
  CHECK(same_bits(pass_of_one<double>(make, whole, {0, tokens}).dx,
                  pass_of_one<double>(make_alone, whole, {0, tokens}).dx));
  for (int const ranks : {2, 3, 8}) {
    CAPTURE(ranks);
    std::size_t drops = 0;
    for (auto const& parts : {even_parts(ranks), odd_parts(ranks)}) {
      auto const passes = passes_of<double>(make, whole, parts);
      for (std::size_t r = 0; r < parts.size(); ++r) {
        CAPTURE(r);
        auto const one = pass_of_one<double>(make_alone, whole, parts[r]);
        CHECK(passes[r].loads.dropped == one.loads.dropped);
        CHECK(same_bits(passes[r].y, one.y));
        CHECK(same_bits(passes[r].evaluated, one.evaluated));
        drops += one.loads.dropped.size();
      }
    }
    CHECK(drops > 10);
  }
  check_slope(make, odd_parts(3), 30);
}

TEST_CASE("a selection bias moved by the loads of all ranks: one rank's, step by step")
{
  constexpr int steps = 8;
  using Biased        = moe::SigmoidTopK<2, moe::renormalized>;
  struct Trace {
    std::vector<std::vector<float>> bias;  // after each step
    std::vector<float> y;                  // of the last one
  };
  auto const run = [&](auto const& dispatcher, TokenRange part) {
    std::vector<float> bias(static_cast<std::size_t>(sizes.experts), 0.f);
    View<float, 1, Host> const moved(bias.data(), sizes.experts);
    View<float const, 1, Host> const read(bias.data(), sizes.experts);
    auto const layer = Composed<Biased, moe::Dropless>{{.bias = read}, moe::Dropless{}}(dispatcher);
    auto params      = layer.template make_params<float>(own(), sizes);
    moe::initialize(own(), params.view(), 7);
    auto saved = layer.template make_saved<float>(own(), sizes, part.count);
    Trace trace;
    for (int step = 0; step < steps; ++step) {
      auto const b = moe::test::part_of(batch<float>(40 + static_cast<unsigned>(step)), part);
      trace.y.assign(b.x.size(), 0.f);
      View<float, 2, Host> const y(trace.y.data(), part.count, sizes.hidden);
      layer.forward(own(), params, b.input(), y, saved);
      moe::update_selection_bias(own(),
                                 saved.plan.tokens_per_expert.const_view(),
                                 moved,
                                 0.05f,
                                 step % 2 == 0 ? moe::Recentre::yes : moe::Recentre::no);
      trace.bias.push_back(bias);
    }
    return trace;
  };
  Trace const one = run(local, {0, tokens});
  for (int const ranks : {1, 2, 3, 4, 8}) {
    for (auto const& parts : {even_parts(ranks), odd_parts(ranks)}) {
      CAPTURE(ranks);
      std::vector<Trace> traces(parts.size());
      ThreadWorld(ranks, {.deadline = std::chrono::seconds(60)})
          .run([&](ThreadCommunicator const& comm) {
            auto const r = static_cast<std::size_t>(comm.rank());
            traces[r]    = run(moe::AllToAllDispatcher(comm), parts[r]);
          });
      std::vector<float> y;
      for (auto const& t : traces) {
        CHECK(t.bias == one.bias);
        y = joined(y, t.y);
      }
      CHECK(same_bits(y, one.y));
    }
  }
  CHECK(one.bias.front() != one.bias.back());
}
