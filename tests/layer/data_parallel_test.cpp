// Compile at -O1: many layers, little work in each.
// Several groups of ranks, each with all experts: the gradients of one process with all tokens. And
// the norm of a gradient whose experts live at several ranks.
#include <doctest/doctest.h>

#include <array>
#include <cmath>

#include "support/rank_step.hpp"

using moe::Host, moe::index_t, moe::Layer, moe::ThreadCommunicator, moe::ThreadWorld;
using namespace moe::test;

namespace {

constexpr index_t T = 64, D = 12, F = 7, E = 6, length = 4, block = 4;

// The largest two logits, each with the weight 1: with whole numbers everything is exact.
struct Ones {
  static constexpr int top_k = 2;
  template <moe::Team G, class S>
  MOE_HOST_DEVICE moe::Choice<2, S> route(G team,
                                          moe::RowContext const&,
                                          moe::Row<S const> logits) const
  {
    moe::Choice<2, S> c;
    c.expert = moe::top_k<2>(team, logits.size(), [&](moe::Id e) { return logits[e]; });
    c.weight = {1, 1};
    return c;
  }
  template <moe::Team G, class S>
  MOE_HOST_DEVICE void route_backward(G,
                                      moe::RowContext const&,
                                      moe::Row<S const>,
                                      moe::Choice<2, S> const&,
                                      moe::Array<S, 2> const&,
                                      moe::Row<S>) const
  {
  }
};
static_assert(moe::RowRouter<Ones>);

template <class RouterT, class ActivationT, class... ExtraTs>
struct Composition {
  RouterT router;
  std::tuple<ExtraTs...> extras{};

  template <class DispatcherT>
  auto with(DispatcherT const& dispatcher) const
  {
    return std::apply(
        [&](auto const&... more) {
          return Layer{router,
                       moe::Dropless{},
                       dispatcher,
                       moe::Ffn<ActivationT>{},
                       moe::SharedExpert{moe::Ffn<ActivationT>{}},
                       more...};
        },
        extras);
  }
};

template <class LayerT>
typename LayerT::Sizes sizes_of(LayerT const&)
{
  typename LayerT::Sizes s{.hidden = D, .experts = E, .expert = {.ffn = F}};
  s.shared.expert.ffn = F;
  return s;
}

Host host()
{
  return Host({.threads = 1, .products = moe::Products::own});
}

template <class CompositionT>
RankStep<double> at_one(CompositionT const& parts, StepBatch const& batch)
{
  auto const layer = parts.with(moe::BatchedDispatcher<>{});
  return run_step<double>(
      layer, host(), sizes_of(layer), batch, 0, T, [](auto const&, auto const&) {});
}

// `groups` of `ranks` each, over consecutive tokens.
template <class CompositionT>
std::vector<RankStep<double>> in_groups(CompositionT const& parts,
                                        StepBatch const& batch,
                                        int groups,
                                        int ranks)
{
  int const P      = groups * ranks;
  auto const first = first_tokens(T, block, P, true);
  return at_ranks<double>(P, [&](ThreadCommunicator const& world) {
    int const r         = world.rank();
    auto const group    = world.split(r / ranks, r);
    auto const replicas = world.split(r % ranks, r / ranks);
    auto const layer    = parts.with(moe::AllToAllDispatcher{group});
    auto const exec     = host();
    auto const i        = static_cast<std::size_t>(r);
    return run_step<double>(layer,
                            exec,
                            sizes_of(layer),
                            batch,
                            first[i],
                            first[i + 1] - first[i],
                            [&](auto const& l, auto const& grads) {
                              l.all_reduce_gradients(
                                  exec, grads, moe::DataParallel{world, replicas});
                            });
  });
}

// Every group has the same bits; together its ranks have `one`'s gradients, compared by `same`.
template <class Same>
void check_groups(std::vector<RankStep<double>> const& steps,
                  int ranks,
                  RankStep<double> const& one,
                  Same const& same)
{
  auto const n     = static_cast<std::size_t>(ranks);
  auto const begin = steps.begin();
  auto const all   = together(std::vector(begin, begin + ranks));
  for (std::size_t r = 0; r < steps.size(); ++r) {
    CHECK(same_bytes(steps[r].beside, steps[0].beside));
    CHECK(same_bytes(steps[r].experts, steps[r % n].experts));
    CHECK(steps[r].norm == steps[0].norm);
  }
  same(all.beside, one.beside);
  same(all.experts, one.experts);
  CHECK(all.norm == doctest::Approx(one.norm).epsilon(1e-12));
  auto const whole = together(steps);
  same({whole.y}, {one.y});
  same({whole.dx}, {one.dx});
}

void near(std::vector<std::vector<double>> const& a, std::vector<std::vector<double>> const& b)
{
  REQUIRE(a.size() == b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    CHECK(relative_error(a[i], b[i]) < 1e-12);
  }
}
void equal(std::vector<std::vector<double>> const& a, std::vector<std::vector<double>> const& b)
{
  CHECK(a == b);
}

constexpr std::array<std::array<int, 2>, 5> worlds{{{2, 2}, {2, 4}, {4, 2}, {3, 1}, {1, 3}}};

double norm_of(RankStep<double> const& step)
{
  double sum = 0;
  for (auto const* lists : {&step.beside, &step.experts}) {
    for (auto const& list : *lists) {
      for (double const g : list) {
        sum += g * g;
      }
    }
  }
  return std::sqrt(sum);
}

}  // namespace

TEST_CASE("groups of ranks have the gradients of one process with all tokens")
{
  Composition<moe::SoftmaxTopK<2, moe::renormalized>, moe::SwiGlu> const parts{};
  StepBatch const batch(T, length, D);
  auto const one = at_one(parts, batch);
  for (auto const& [groups, ranks] : worlds) {
    CAPTURE(groups);
    CAPTURE(ranks);
    check_groups(in_groups(parts, batch, groups, ranks), ranks, one, near);
  }
}

TEST_CASE("to the bit where numbers are whole")
{
  Composition<Ones, moe::Relu> const parts{};
  StepBatch batch(T, length, D);
  batch.integers = true;
  auto const one = at_one(parts, batch);
  for (auto const& [groups, ranks] : worlds) {
    CAPTURE(groups);
    CAPTURE(ranks);
    check_groups(in_groups(parts, batch, groups, ranks), ranks, one, equal);
  }
}

TEST_CASE("with the reproducible reduction within each group")
{
  moe::ReproducibleReduction const by_blocks{.block = block};
  Composition<Ones, moe::Relu, moe::ReproducibleReduction> const parts{{}, {by_blocks}};
  StepBatch batch(T, length, D);
  batch.integers = true;
  auto const one = at_one(parts, batch);
  for (auto const& [groups, ranks] : worlds) {
    CAPTURE(groups);
    CAPTURE(ranks);
    check_groups(in_groups(parts, batch, groups, ranks), ranks, one, equal);
  }
}

TEST_CASE("groups add up their losses: of one batch's strength with a part of the coefficient")
{
  StepBatch const batch(T, length, D);
  auto const with = [](double coeff) {
    return Composition<moe::SoftmaxTopK<2>, moe::SwiGlu, moe::RouterZLoss>{
        {}, {moe::RouterZLoss{.coeff = coeff}}};
  };
  auto const one = at_one(with(0.5), batch);
  check_groups(in_groups(with(0.5 / 4), batch, 4, 2), 2, one, near);
  auto const whole = together(in_groups(with(0.5), batch, 4, 2));
  CHECK(relative_error(whole.beside[0], one.beside[0]) > 1e-3);
}

TEST_CASE("a world that is not made of the groups is refused")
{
  ThreadWorld(4).run([](ThreadCommunicator const& world) {
    auto const group    = world.split(world.rank() / 2, world.rank());
    auto const replicas = world.split(world.rank() % 2, world.rank());
    auto const layer    = Composition<Ones, moe::Relu>{}.with(moe::AllToAllDispatcher{group});
    auto const exec     = host();
    auto grads          = layer.make_params<double>(exec, sizes_of(layer));
    CHECK_THROWS_WITH_AS(
        layer.all_reduce_gradients(exec, grads.view(), moe::DataParallel{replicas, world}),
        doctest::Contains("ranks of the world is 2, must be ranks of a group x replicas (8)"),
        moe::ShapeError);
    layer.all_reduce_gradients(exec, grads.view(), moe::DataParallel{world, replicas});
  });
}

TEST_CASE("the norm counts each expert once, and what every rank has once")
{
  Composition<moe::SoftmaxTopK<2, moe::renormalized>, moe::SwiGlu> const parts{};
  StepBatch const batch(T, length, D);
  auto const one = at_one(parts, batch);
  CHECK(one.norm == doctest::Approx(norm_of(one)).epsilon(1e-14));
  for (int const P : {2, 4, 8}) {  // 6 experts: uneven parts, and ranks without any
    CAPTURE(P);
    auto const all = together(in_groups(parts, batch, 1, P));
    CHECK(all.norm == doctest::Approx(norm_of(all)).epsilon(1e-14));
    CHECK(all.norm == doctest::Approx(one.norm).epsilon(1e-12));
  }
}

TEST_CASE("the same gradients have the same norm at any number of ranks, larger ones too")
{
  typename decltype(Composition<Ones, moe::Relu>{}.with(moe::SerialDispatcher{}))::Sizes sizes{
      .hidden = 100, .experts = 5, .expert = {.ffn = 64}};  // 6400 elements: two sums of each
  sizes.shared.expert.ffn = 90;
  auto const norm         = [&](int P, double change) {
    std::vector<double> norms(static_cast<std::size_t>(P));
    ThreadWorld(P).run([&](ThreadCommunicator const& comm) {
      auto const layer = Composition<Ones, moe::Relu>{}.with(moe::AllToAllDispatcher{comm});
      auto const exec  = host();
      auto grads       = layer.make_params<float>(exec, sizes);
      moe::initialize(exec, grads.view(), 5);
      auto const range = moe::experts_of_rank(5, P, comm.rank());
      if (range.count > 0 && range.first + range.count == 5) {  // its last, of the last expert
        auto const w = grads.view().experts.w_out;
        w(range.count - 1, 99, 63) += static_cast<float>(change);
      }
      moe::Tensor<double, 1, Host> in_space(exec, 1);
      layer.gradient_norm(exec, grads.view(), in_space.view());
      auto const r = static_cast<std::size_t>(comm.rank());
      norms[r]     = layer.gradient_norm(exec, grads.view());
      CHECK(norms[r] == in_space.view()(0));
    });
    for (double const n : norms) {
      CHECK(n == norms[0]);
    }
    return norms[0];
  };
  double const one = norm(1, 0);
  CHECK(one > 0);
  CHECK(norm(1, 1) != one);
  for (int const P : {2, 3, 5, 8}) {
    CAPTURE(P);
    CHECK(norm(P, 0) == one);
    CHECK(norm(P, 1) == norm(1, 1));
  }
  auto const layer = Composition<Ones, moe::Relu>{}.with(moe::SerialDispatcher{});
  auto grads       = layer.make_params<float>(host(), sizes);
  moe::Tensor<double, 1, Host> two(host(), 2);
  CHECK_THROWS_AS(layer.gradient_norm(host(), grads.view(), two.view()), moe::ShapeError);
}
