// Compile at -O1: many layers, little work in each.
// On every space.
// Sizes and loads at the edges, against a naive mixture of experts in double; memory beside the
// outputs stays as it was, and so do the inputs.
#include "support/spaces.hpp"

#include <doctest/doctest.h>

#include "support/naive_moe.hpp"
#include "support/space_batch.hpp"

using moe::index_t;
using moe::test::Batch, moe::test::BatchIn, moe::test::distance, moe::test::GateFfnSizes,
    moe::test::get, moe::test::GradsIn, moe::test::GuardedIn, moe::test::NaiveMoe,
    moe::test::TestSpace;

namespace {

constexpr double balance_coeff = 0.5, z_coeff = 0.25;

// The sharpest element type of the space, and what its results may differ by: parts of the largest.
using Sharp                = std::conditional_t<moe::test::space_has_double, double, float>;
constexpr double sharpness = moe::test::space_has_double ? 1e-12 : 3e-5;

TestSpace default_space()
{
  return moe::test::test_space(moe::Products::automatic);
}

template <int K,
          class NormT,
          class CapacityT   = moe::Dropless,
          class DispatcherT = moe::BatchedDispatcher<>>
auto layer_of(CapacityT capacity = {}, DispatcherT dispatcher = {})
{
  return moe::Layer{moe::SoftmaxTopK<K, NormT>{},
                    capacity,
                    dispatcher,
                    moe::Ffn<moe::SwiGlu>{},
                    moe::SwitchLoss{.coeff = balance_coeff},
                    moe::RouterZLoss{.coeff = z_coeff}};
}

template <class T, class LayerT>
NaiveMoe naive_of(LayerT const& layer, Batch<T> const& b, int top_k)
{
  auto const size = [](index_t n) { return static_cast<std::size_t>(n); };
  auto const p    = b.param_views(layer);
  NaiveMoe m;
  m.T             = size(b.tokens);
  m.D             = size(b.sizes.hidden);
  m.F             = size(b.sizes.expert.ffn);
  m.E             = size(b.sizes.experts);
  m.K             = size(top_k);
  m.renormalize   = top_k > 1;
  m.balance_coeff = balance_coeff;
  m.z_coeff       = z_coeff;
  m.x             = moe::test::numbers_of(b.x_view());
  m.dy            = moe::test::numbers_of(b.dy_view());
  m.gate          = moe::test::numbers_of(p.gate.w);
  m.w_in          = moe::test::numbers_of(p.experts.w_in);
  m.w_out         = moe::test::numbers_of(p.experts.w_out);
  for (index_t t = 0; t < b.tokens; ++t) {
    m.takes_part.push_back(b.mask.empty() || b.mask[size(t)] != 0);
  }
  return m;
}

// Runs the layer over `b` and compares all it writes with the naive one, within `tolerance` of the
// largest value.
template <int K, class T, class LayerT>
void check_against_naive(TestSpace const& exec,
                         LayerT const& layer,
                         Batch<T> const& b,
                         double tolerance,
                         std::size_t slots = std::numeric_limits<std::size_t>::max())
{
  using S     = moe::accumulator_t<T>;
  auto naive  = naive_of(layer, b, K);
  naive.slots = slots;
  naive.run();

  T const nan     = moe::test::to_element<T>(std::numeric_limits<double>::quiet_NaN());
  index_t const D = b.sizes.hidden, elements = b.tokens * D;
  BatchIn const in(exec, layer, b);
  GuardedIn<T, TestSpace> const y(exec, elements, nan), dx(exec, elements, nan),
      evaluated(exec, elements, nan);
  GradsIn<LayerT, S, TestSpace> const grads(exec, b.sizes);
  auto const p        = in.param_views();
  auto saved          = layer.forward(exec, p, in.input(), y.view(D));
  auto const backward = [&] {
    layer.backward(exec, p, saved, in.input(), in.dy_view(), grads.views(), dx.view(D));
    return grads.values();
  };
  layer.evaluate(exec, p, in.input(), evaluated.view(D));
  auto once  = backward();
  auto twice = backward();

  auto const worst = [&](auto const& got, std::vector<double> const& expected) {
    return distance(moe::test::numbers_of(got.data(), static_cast<index_t>(got.size())), expected);
  };
  auto const worst_view = [&](auto const& view, std::vector<double> const& expected) {
    return distance(moe::test::numbers_of(view), expected);
  };
  auto const gradient = grads.views_of(once);
  CHECK(worst(y.values(), naive.y) <= tolerance);
  CHECK(worst(evaluated.values(), naive.y) <= tolerance);
  CHECK(worst(dx.values(), naive.dx) <= tolerance);
  CHECK(worst_view(gradient.gate.w, naive.d_gate) <= tolerance);
  CHECK(worst_view(gradient.experts.w_in, naive.d_w_in) <= tolerance);
  CHECK(worst_view(gradient.experts.w_out, naive.d_w_out) <= tolerance);
  auto const losses = saved.losses(exec);
  CHECK(std::abs(static_cast<double>(losses[0]) - naive.balance_loss) <=
        tolerance * std::max(1.0, naive.balance_loss));
  CHECK(std::abs(static_cast<double>(losses[1]) - naive.z_loss) <=
        tolerance * std::max(1.0, naive.z_loss));

  // Routing and statistics, exactly.
  auto const loads     = saved.statistics(exec);
  auto const expert    = get(exec, saved.routing.expert.const_view());
  std::size_t mistaken = 0, n_dropped = 0;
  for (std::size_t a = 0; a < naive.expert.size(); ++a) {
    bool const goes     = naive.takes_part[a / naive.K];
    auto const expected = goes ? static_cast<moe::Id>(naive.expert[a]) : moe::no_expert;
    if (expert[a] != expected) { ++mistaken; }
    if (goes && !naive.kept[a]) {
      bool const listed =
          n_dropped < loads.dropped.size() && loads.dropped[n_dropped] == static_cast<moe::Id>(a);
      if (!listed) { ++mistaken; }
      ++n_dropped;
    }
  }
  CHECK(mistaken == 0);
  CHECK(loads.dropped.size() == n_dropped);
  CHECK(std::equal(loads.tokens_per_expert.begin(),
                   loads.tokens_per_expert.end(),
                   naive.load.begin(),
                   naive.load.end(),
                   [](moe::Id a, std::size_t e) { return static_cast<std::size_t>(a) == e; }));

  // An expert that kept nothing has gradients of exactly 0.
  double idle        = 0;
  auto const look_at = [&](auto const& v, index_t e) {
    index_t const each = v.size() / b.sizes.experts;
    for (index_t i = e * each; i < (e + 1) * each; ++i) {
      idle = std::max(idle, std::abs(static_cast<double>(v.data_handle()[i])));
    }
  };
  for (index_t e = 0; e < b.sizes.experts; ++e) {
    if (loads.kept_per_expert[static_cast<std::size_t>(e)] > 0) { continue; }
    look_at(gradient.experts.w_in, e);
    look_at(gradient.experts.w_out, e);
  }
  CHECK(idle == 0);

  // A second backward adds the same again.
  auto const added = moe::test::values_of(grads.views_of(twice));
  auto const first = moe::test::values_of(gradient);
  for (std::size_t v = 0; v < first.size(); ++v) {
    auto doubled = first[v];
    for (double& g : doubled) {
      g *= 2;
    }
    CHECK(distance(added[v], doubled) <= tolerance);
  }

  CHECK((y.whole() && dx.whole() && evaluated.whole() && grads.whole()));
  CHECK(in.unchanged());
}

GateFfnSizes sizes_of(index_t hidden, index_t experts, index_t ffn)
{
  return {.hidden = hidden, .experts = experts, .expert = {.ffn = ffn}};
}

constexpr index_t all_tokens[]  = {0, 1, 2, 7, 63, 65, 127, 128, 129, 4097};
constexpr index_t all_experts[] = {1, 2, 5, 31, 33, 64, 127, 129, 255, 256, 257, 1024};

template <int K, class NormT = moe::renormalized>
void check_sizes(TestSpace const& exec)
{
  auto const layer = layer_of<K, NormT>();
  unsigned seed    = 1;
  for (index_t const E : all_experts) {
    for (index_t const T : all_tokens) {
      // Every T with every E for K = 2 (large T with few E), every edge once for the others.
      bool const often = K == 2 && (T < 4097 || E == 5 || E == 257);
      bool const once  = T == 7 || (T == 65 && E == 257);
      if (E < K || !(often || once)) { continue; }
      CAPTURE(K);
      CAPTURE(E);
      CAPTURE(T);
      check_against_naive<K>(
          exec, layer, Batch<Sharp>::make(layer, sizes_of(5, E, 3), T, ++seed), sharpness);
    }
  }
}

}  // namespace

TEST_CASE("any number of tokens and experts, and of choices up to all of them")
{
  auto const exec = default_space();
  check_sizes<1, moe::unnormalized>(exec);
  check_sizes<2>(exec);
  check_sizes<8>(exec);
  check_sizes<32>(exec);
  auto const eight = layer_of<8, moe::renormalized>();
  check_against_naive<8>(
      exec, eight, Batch<Sharp>::make(eight, sizes_of(7, 8, 5), 65, 1), sharpness);
  auto const most = layer_of<32, moe::renormalized>();
  check_against_naive<32>(
      exec, most, Batch<Sharp>::make(most, sizes_of(7, 32, 5), 65, 1), sharpness);
}

using Other = std::conditional_t<moe::test::space_has_double, double, moe::BFloat16>;

TEST_CASE_TEMPLATE("any hidden and ffn", T, float, Other)
{
  auto const exec        = default_space();
  auto const layer       = layer_of<2, moe::renormalized>();
  double const tolerance = sizeof(T) == 4 ? 2e-5 : sizeof(T) == 8 ? 1e-12 : 3e-2;
  struct Edge {
    index_t tokens, hidden, experts, ffn;
  };
  for (Edge const edge : {Edge{33, 1, 3, 1},
                          Edge{33, 2, 3, 7},
                          Edge{33, 3, 5, 2},
                          Edge{33, 9, 2, 31},
                          Edge{17, 31, 4, 33},
                          Edge{17, 33, 4, 17},
                          Edge{17, 63, 4, 1},
                          Edge{9, 127, 3, 129},
                          Edge{9, 129, 3, 65},
                          Edge{3, 1000, 3, 3},
                          Edge{129, 136, 3, 72},
                          Edge{3, 8200, 3, 8},
                          Edge{3, 8193, 3, 3}}) {
    CAPTURE(edge.hidden);
    CAPTURE(edge.ffn);
    auto b = Batch<T>::make(layer, sizes_of(edge.hidden, edge.experts, edge.ffn), edge.tokens, 9);
    if (edge.hidden > 1000) {  // logits and pre-activations of a size that keeps its digits
      for (T& w : b.params) {
        w = moe::test::to_element<T>(static_cast<double>(w) / 32);
      }
    }
    check_against_naive<2>(exec, layer, b, tolerance);
  }
}

TEST_CASE("one expert gets everything, others nothing; with slots for all, some and none")
{
  auto const exec     = default_space();
  auto const dropless = layer_of<2, moe::renormalized>();
  for (index_t const favourite : {0, 3, 6}) {
    for (index_t const rest : {2, 5}) {  // of the others, the second choice is always this one
      CAPTURE(favourite);
      auto b = Batch<Sharp>::make(dropless, sizes_of(6, 7, 5), 129, 4);
      for (index_t t = 0; t < b.tokens; ++t) {
        b.x[static_cast<std::size_t>(t * 6)] = 1;
      }
      auto const gate =
          moe::test::params_at<std::decay_t<decltype(dropless)>, Sharp>(b.params.data(), b.sizes)
              .gate.w;
      gate(favourite, 0) = 90;
      gate(rest, 0)      = 60;
      check_against_naive<2>(exec, dropless, b, sharpness);
      for (index_t const slots : {0, 1, 128, 129, 1000}) {
        CAPTURE(slots);
        moe::DropByPosition const capacity{moe::FixedCapacity{slots}};
        auto const n = static_cast<std::size_t>(slots);
        check_against_naive<2>(exec, layer_of<2, moe::renormalized>(capacity), b, sharpness, n);
        check_against_naive<2>(exec,
                               layer_of<2, moe::renormalized>(capacity, moe::SerialDispatcher{}),
                               b,
                               sharpness,
                               n);
      }
    }
  }
}

TEST_CASE("masked tokens take no part, whatever they hold")
{
  auto const exec = default_space();
  moe::DropByPosition const capacity{moe::FixedCapacity{9}};
  auto const dropless = layer_of<2, moe::renormalized>();
  auto const bounded  = layer_of<2, moe::renormalized>(capacity);
  for (int which = 0; which < 3; ++which) {
    CAPTURE(which);
    auto b = Batch<Sharp>::make(dropless, sizes_of(6, 7, 5), 65, 8);
    for (index_t t = 0; t < b.tokens; ++t) {
      bool const in = which == 0 ? t % 3 != 0 : which == 1 ? t == 64 : false;
      b.mask.push_back(in ? 1 : 0);
    }
    check_against_naive<2>(exec, dropless, b, sharpness);
    check_against_naive<2>(exec, bounded, b, sharpness, 9);
  }
}

TEST_CASE("assignments around 2^16")
{
  auto const exec = default_space();
  auto const one  = layer_of<1, moe::unnormalized>();
  for (index_t const T : {65535, 65536, 65537}) {
    CAPTURE(T);
    check_against_naive<1>(exec, one, Batch<Sharp>::make(one, sizes_of(3, 5, 2), T, 2), sharpness);
  }
  auto const eight = layer_of<8, moe::renormalized>();
  for (index_t const T : {8191, 8192, 8193}) {
    CAPTURE(T);
    check_against_naive<8>(
        exec, eight, Batch<Sharp>::make(eight, sizes_of(3, 9, 2), T, 3), sharpness);
  }
}
