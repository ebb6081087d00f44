// Compile at -O1: many layers, little work in each.
// With ReproducibleReduction everything has the same bits, however many ranks share the tokens.
#include <doctest/doctest.h>

#include "gradient_check.hpp"
#include "support/rank_step.hpp"

using moe::BFloat16, moe::Host, moe::index_t, moe::Layer, moe::ThreadCommunicator, moe::ThreadWorld;
using namespace moe::test;

namespace {

constexpr index_t T = 60, D = 12, F = 7, E = 6, length = 4, block = 8;  // the last block is short

auto const no_more = [](auto const&, auto const&) {};

template <class DispatcherT, class... ExtraTs>
auto layer_of(DispatcherT const& dispatcher, ExtraTs... extras)
{
  return Layer{moe::SoftmaxTopK<2, moe::renormalized>{},
               moe::Dropless{},
               dispatcher,
               moe::Ffn<moe::SwiGlu>{},
               moe::SwitchLoss{.coeff = 1e-1},
               moe::RouterZLoss{.coeff = 1e-1},
               extras...};
}

template <class LayerT>
typename LayerT::Sizes sizes_of(LayerT const&)
{
  typename LayerT::Sizes s{.hidden = D, .experts = E, .expert = {.ffn = F}};
  if constexpr (requires { s.shared.expert.ffn = F; }) { s.shared.expert.ffn = F; }
  return s;
}

template <class E>
void check_same(RankStep<E> const& a, RankStep<E> const& b)
{
  CHECK(same_bytes(a.y, b.y));
  CHECK(same_bytes(a.dx, b.dx));
  CHECK(same_bytes(a.losses, b.losses));
  CHECK(same_bytes(a.beside, b.beside));
  CHECK(same_bytes(a.experts, b.experts));
  CHECK(a.norm == b.norm);
}

// The layer with those extras at one rank and at several, and without the reduction.
template <class E, class... ExtraTs>
void check_worlds(StepBatch const& batch, std::vector<int> const& worlds, ExtraTs... extras)
{
  moe::ReproducibleReduction const reduction{.block = block};
  auto const one_layer = layer_of(moe::BatchedDispatcher<>{}, reduction, extras...);
  auto const sizes     = sizes_of(one_layer);
  Host const own({.threads = 2, .products = moe::Products::own});
  auto const one = run_step<E>(one_layer, own, sizes, batch, 0, batch.tokens, no_more);
  for (auto const& list : one.beside) {
    double norm = 0;
    for (auto const g : list) {
      norm += static_cast<double>(g) * static_cast<double>(g);
    }
    CHECK(norm > 0);
  }
  // The products of a default Host (a BLAS, where there is one) do not show.
  check_same(run_step<E>(one_layer, Host({.threads = 1}), sizes, batch, 0, batch.tokens, no_more),
             one);

  for (int const P : worlds) {
    for (bool const even : {true, false}) {
      CAPTURE(P);
      CAPTURE(even);
      auto const first = first_tokens(batch.tokens, block, P, even);
      auto const steps = at_ranks<E>(P, [&](ThreadCommunicator const& comm) {
        auto const r     = static_cast<std::size_t>(comm.rank());
        auto const layer = layer_of(moe::AllToAllDispatcher{comm}, reduction, extras...);
        Host const exec({.threads = 1});
        return run_step<E>(layer,
                           exec,
                           sizes,
                           batch,
                           first[r],
                           first[r + 1] - first[r],
                           [&](auto const& of, auto const& grads) {
                             of.all_reduce_gradients(exec, grads);  // nothing more to sum
                           });
      });
      check_same(together(steps), one);
      for (auto const& s : steps) {
        CHECK(same_bytes(s.beside, steps[0].beside));
        CHECK(same_bytes(s.losses, steps[0].losses));
      }
    }
  }

  // Without it: the same numbers within rounding.
  auto const plain = run_step<E>(
      layer_of(moe::BatchedDispatcher<>{}, extras...), own, sizes, batch, 0, batch.tokens, no_more);
  auto const near = [](auto const& a, auto const& b) {
    std::vector<double> const x(a.begin(), a.end()), y(b.begin(), b.end());
    CHECK(relative_error(x, y) < (sizeof(x[0]) == sizeof(a[0]) ? 1e-12 : 1e-4));
  };
  near(one.losses, plain.losses);
  if (sizeof(E) == 2) { return; }  // of the second micro-batch x is dx, rounded to bf16
  for (std::size_t v = 0; v < one.beside.size(); ++v) {
    near(one.beside[v], plain.beside[v]);
  }
}

StepBatch const batch(T, length, D);

}  // namespace

TEST_CASE_TEMPLATE("the same bits for any number of ranks", E, float, double, BFloat16)
{
  check_worlds<E>(batch,
                  {1, 2, 3, 4, 8},
                  moe::SharedExpert{moe::Ffn<moe::SwiGlu>{}, moe::sigmoid_gated{}},
                  moe::DeepSeekSequenceLoss{.coeff = 1e-1});
}

TEST_CASE("with every gate")
{
  check_worlds<float>(batch, {3}, moe::BiasedLinearGate{});
  check_worlds<float>(batch, {3}, moe::LowRankGate{});
  check_worlds<float>(batch, {3}, moe::CosineGate{});
  check_worlds<float>(batch, {3}, moe::TemperedGate{moe::LinearGate{}});
}

TEST_CASE("with masked tokens, and fewer blocks than ranks")
{
  StepBatch masked(20, length, D);
  for (index_t t = 0; t < 20; ++t) {
    masked.mask.push_back(t % 3 == 0 ? 0 : 1);
  }
  check_worlds<float>(masked, {2, 8}, moe::SharedExpert{moe::Ffn<moe::SwiGlu>{}});
}

TEST_CASE("without it, the ranks' parts show in the bits")
{
  auto const of = [](int P) {
    auto const first = first_tokens(T, block, P, true);
    return together(at_ranks<float>(P, [&](ThreadCommunicator const& comm) {
      auto const r     = static_cast<std::size_t>(comm.rank());
      auto const layer = layer_of(moe::AllToAllDispatcher{comm});
      Host const exec({.threads = 1, .products = moe::Products::own});
      return run_step<float>(
          layer,
          exec,
          sizes_of(layer),
          batch,
          first[r],
          first[r + 1] - first[r],
          [&](auto const& l, auto const& grads) { l.all_reduce_gradients(exec, grads); });
    }));
  };
  CHECK(!same_bytes(of(1).beside, of(4).beside));
}

TEST_CASE("its backward passes the gradient check")
{
  auto const layer = Layer{moe::SoftmaxTopK<2>{},
                           moe::Dropless{},
                           moe::SerialDispatcher{},
                           moe::Ffn<moe::SwiGlu>{},
                           moe::ReproducibleReduction{.block = 3},
                           moe::CosineGate{},
                           moe::SharedExpert{moe::Ffn<moe::SwiGlu>{}, moe::sigmoid_gated{}}};
  typename decltype(layer)::Sizes sizes{.hidden = 6, .experts = 5, .expert = {.ffn = 3}};
  sizes.shared.expert.ffn = 4;
  CHECK(gradient_error(layer, sizes, 8) < 1e-6);
}

TEST_CASE("blocks that ranks do not hold whole are refused on every rank alike")
{
  auto const refused = [](std::vector<index_t> const& parts, index_t of_block) {
    int const P = static_cast<int>(parts.size());
    std::vector<std::string> errors(parts.size());
    ThreadWorld(P, {.deadline = std::chrono::seconds(60)}).run([&](ThreadCommunicator const& comm) {
      auto const r = static_cast<std::size_t>(comm.rank());
      auto const layer =
          layer_of(moe::AllToAllDispatcher{comm}, moe::ReproducibleReduction{.block = of_block});
      Host const exec({.threads = 1});
      auto const params = layer.make_params<float>(exec, sizes_of(layer));
      moe::Tensor<float, 2, Host> x(exec, parts[r], D), y(exec, parts[r], D);
      exec.zero(x.view().data_handle(), x.bytes());
      try {
        (void)layer.forward(exec, params, x.const_view(), y.view());
      } catch (moe::CommunicationError const& e) {
        errors[r] = e.what();
      }
    });
    for (auto const& e : errors) {
      CHECK(e == errors[0]);
    }
    return errors[0];
  };
  CHECK(
      refused({8, 7, 8}, 8) ==
      "moe::Layer::forward: tokens is 7, must be a multiple of the reduction's block (8) at every "
      "rank but the last that has tokens [rank 1]");
  CHECK(refused({7, 8, 0}, 8) != "");
  CHECK(refused({16, 8, 7}, 8) == "");
  CHECK(refused({8, 7, 0}, 8) == "");  // the last that has tokens
  CHECK(refused({0, 8, 16, 0}, 8) == "");
  CHECK(refused({0, 0}, 8) == "");
  CHECK(refused({53}, 8) == "");  // alone
}

TEST_CASE("a block of no token, and ranks with blocks of their own, are refused")
{
  Host const exec({.threads = 1});
  auto const layer = layer_of(moe::SerialDispatcher{}, moe::ReproducibleReduction{.block = 0});
  CHECK_THROWS_WITH_AS((void)layer.make_params<float>(exec, sizes_of(layer)),
                       doctest::Contains("block is 0, must be at least 1"),
                       moe::ValueError);
  ThreadWorld(2, {.deadline = std::chrono::seconds(60)}).run([&](ThreadCommunicator const& comm) {
    auto const mine = layer_of(moe::AllToAllDispatcher{comm},
                               moe::ReproducibleReduction{.block = 4 + 4 * comm.rank()});
    Host const host({.threads = 1});
    auto const params = mine.make_params<float>(host, sizes_of(mine));
    moe::Tensor<float, 2, Host> x(host, 8, D), y(host, 8, D);
    host.zero(x.view().data_handle(), x.bytes());
    CHECK_THROWS_WITH_AS((void)mine.forward(host, params, x.const_view(), y.view()),
                         doctest::Contains("block of the reduction is 8"),
                         moe::CommunicationError);
  });
}

TEST_CASE("a program's own sums over blocks: many columns, in pieces")
{
  index_t const n = 70001;
  auto const sum  = [&](int P) {
    auto const first = first_tokens(T, block, P, false);
    std::vector<float> total(static_cast<std::size_t>(n));
    ThreadWorld(P, {.deadline = std::chrono::seconds(60)}).run([&](ThreadCommunicator const& comm) {
      Host const exec({.threads = 1});
      auto const r      = static_cast<std::size_t>(comm.rank());
      auto const counts = moe::count_blocks(exec, comm, first[r + 1] - first[r], block);
      moe::Tensor<float, 2, Host> partials(exec, counts.here, n);
      for (index_t b = 0; b < counts.here; ++b) {
        for (index_t i = 0; i < n; ++i) {
          partials.view()(b, i) = std::sin(static_cast<float>((first[r] / block + b) * n + i));
        }
      }
      moe::Tensor<float, 1, Host> mine(exec, n);
      moe::sum_blocks_over_ranks(exec, comm, counts, partials.const_view(), mine.view());
      if (comm.rank() == P - 1) { total = get(exec, mine.const_view()); }
    });
    return total;
  };
  auto const one = sum(1);
  CHECK(one[5] == doctest::Approx([&] {
          double s = 0;
          for (index_t b = 0; b < 8; ++b) {
            s += std::sin(static_cast<float>(b * n + 5));
          }
          return s;
        }()));
  for (int const P : {2, 5, 8}) {
    CHECK(same_bytes(sum(P), one));
  }
}
