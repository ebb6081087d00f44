// Sizes and loads at the edges, against a naive mixture of experts in double; memory beside the
// outputs stays as it was, and so do the inputs.
#include <doctest/doctest.h>

#include "support/layer_batch.hpp"
#include "support/naive_moe.hpp"

using moe::Host, moe::index_t;
using moe::test::Batch, moe::test::distance, moe::test::GateFfnSizes, moe::test::Guarded,
    moe::test::GuardedGrads, moe::test::NaiveMoe, moe::test::same_bits;

namespace {

constexpr double balance_coeff = 0.5, z_coeff = 0.25;

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
void check_against_naive(LayerT const& layer,
                         Batch<T> const& b,
                         double tolerance,
                         std::size_t slots = std::numeric_limits<std::size_t>::max())
{
  using S     = moe::accumulator_t<T>;
  auto naive  = naive_of(layer, b, K);
  naive.slots = slots;
  naive.run();

  Host const exec;
  Batch<T> const before = b;
  T const nan           = moe::test::to_element<T>(std::numeric_limits<double>::quiet_NaN());
  index_t const D       = b.sizes.hidden;
  Guarded<T> y(b.tokens * D, nan), dx(b.tokens * D, nan), evaluated(b.tokens * D, nan);
  GuardedGrads<LayerT, S> grads(b.sizes);

  auto saved = layer.forward(exec, b.param_views(layer), b.input(), y.view(D));
  layer.evaluate(exec, b.param_views(layer), b.input(), evaluated.view(D));
  layer.backward(
      exec, b.param_views(layer), saved, b.input(), b.dy_view(), grads.views(), dx.view(D));

  auto const worst = [&](auto const& got, std::vector<double> const& expected) {
    return distance(moe::test::numbers_of(got), expected);
  };
  CHECK(worst(y.view(D), naive.y) <= tolerance);
  CHECK(worst(evaluated.view(D), naive.y) <= tolerance);
  CHECK(worst(dx.view(D), naive.dx) <= tolerance);
  CHECK(worst(grads.views().gate.w, naive.d_gate) <= tolerance);
  CHECK(worst(grads.views().experts.w_in, naive.d_w_in) <= tolerance);
  CHECK(worst(grads.views().experts.w_out, naive.d_w_out) <= tolerance);
  auto const losses = saved.losses(exec);
  CHECK(std::abs(static_cast<double>(losses[0]) - naive.balance_loss) <=
        tolerance * std::max(1.0, naive.balance_loss));
  CHECK(std::abs(static_cast<double>(losses[1]) - naive.z_loss) <=
        tolerance * std::max(1.0, naive.z_loss));

  // Routing and statistics, exactly.
  auto const loads     = saved.statistics(exec);
  std::size_t mistaken = 0, n_dropped = 0;
  for (std::size_t a = 0; a < naive.expert.size(); ++a) {
    bool const goes     = naive.takes_part[a / naive.K];
    auto const expected = goes ? static_cast<moe::Id>(naive.expert[a]) : moe::no_expert;
    if (saved.routing.expert.const_view()(static_cast<index_t>(a)) != expected) { ++mistaken; }
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
  double idle = 0;
  for (index_t e = 0; e < b.sizes.experts; ++e) {
    if (loads.kept_per_expert[static_cast<std::size_t>(e)] > 0) { continue; }
    auto const views = grads.views().experts;
    for (auto const& v : {views.w_in, views.w_out}) {
      index_t const each = v.size() / b.sizes.experts;
      for (index_t i = e * each; i < (e + 1) * each; ++i) {
        idle = std::max(idle, std::abs(static_cast<double>(v.data_handle()[i])));
      }
    }
  }
  CHECK(idle == 0);

  // A second backward adds the same again: twice a number is exact.
  auto const once = moe::test::values_of(grads.views());
  layer.backward(
      exec, b.param_views(layer), saved, b.input(), b.dy_view(), grads.views(), dx.view(D));
  auto const twice = moe::test::values_of(grads.views());
  double off       = 0;
  for (std::size_t v = 0; v < once.size(); ++v) {
    for (std::size_t i = 0; i < once[v].size(); ++i) {
      off = std::max(off, std::abs(twice[v][i] - 2 * once[v][i]));
    }
  }
  CHECK(off <= tolerance);

  CHECK((y.whole() && dx.whole() && evaluated.whole() && grads.whole()));
  CHECK((same_bits(b.x, before.x) && same_bits(b.dy, before.dy) &&
         same_bits(b.params, before.params) && b.mask == before.mask));
}

GateFfnSizes sizes_of(index_t hidden, index_t experts, index_t ffn)
{
  return {.hidden = hidden, .experts = experts, .expert = {.ffn = ffn}};
}

constexpr index_t all_tokens[]  = {0, 1, 2, 7, 63, 65, 127, 128, 129, 4097};
constexpr index_t all_experts[] = {1, 2, 5, 31, 33, 64, 127, 129, 255, 256, 257, 1024};

template <int K, class NormT = moe::renormalized>
void check_sizes()
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
          layer, Batch<double>::make(layer, sizes_of(5, E, 3), T, ++seed), 1e-12);
    }
  }
}

}  // namespace

TEST_CASE("any number of tokens and experts, and of choices up to all of them")
{
  check_sizes<1, moe::unnormalized>();
  check_sizes<2>();
  check_sizes<8>();
  check_sizes<32>();
  auto const eight = layer_of<8, moe::renormalized>();
  check_against_naive<8>(eight, Batch<double>::make(eight, sizes_of(7, 8, 5), 65, 1), 1e-12);
  auto const most = layer_of<32, moe::renormalized>();
  check_against_naive<32>(most, Batch<double>::make(most, sizes_of(7, 32, 5), 65, 1), 1e-12);
}

TEST_CASE_TEMPLATE("any hidden and ffn", T, float, double)
{
  auto const layer       = layer_of<2, moe::renormalized>();
  double const tolerance = std::is_same_v<T, float> ? 2e-5 : 1e-12;
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
                          Edge{3, 8193, 3, 3}}) {
    CAPTURE(edge.hidden);
    CAPTURE(edge.ffn);
    auto b = Batch<T>::make(layer, sizes_of(edge.hidden, edge.experts, edge.ffn), edge.tokens, 9);
    if (edge.hidden > 1000) {  // logits and pre-activations of a size that keeps its digits
      for (T& w : b.params) {
        w = w / T(32);
      }
    }
    check_against_naive<2>(layer, b, tolerance);
  }
}

TEST_CASE("one expert gets everything, others nothing; with slots for all, some and none")
{
  auto const dropless = layer_of<2, moe::renormalized>();
  for (index_t const favourite : {0, 3, 6}) {
    for (index_t const rest : {2, 5}) {  // of the others, the second choice is always this one
      CAPTURE(favourite);
      auto b = Batch<double>::make(dropless, sizes_of(6, 7, 5), 129, 4);
      for (index_t t = 0; t < b.tokens; ++t) {
        b.x[static_cast<std::size_t>(t * 6)] = 1;
      }
      auto const gate =
          moe::test::params_at<std::decay_t<decltype(dropless)>, double>(b.params.data(), b.sizes)
              .gate.w;
      gate(favourite, 0) = 90;
      gate(rest, 0)      = 60;
      check_against_naive<2>(dropless, b, 1e-12);
      for (index_t const slots : {0, 1, 128, 129, 1000}) {
        CAPTURE(slots);
        moe::DropByPosition const capacity{moe::FixedCapacity{slots}};
        auto const n = static_cast<std::size_t>(slots);
        check_against_naive<2>(layer_of<2, moe::renormalized>(capacity), b, 1e-12, n);
        check_against_naive<2>(
            layer_of<2, moe::renormalized>(capacity, moe::SerialDispatcher{}), b, 1e-12, n);
      }
    }
  }
}

TEST_CASE("masked tokens take no part, whatever they hold")
{
  moe::DropByPosition const capacity{moe::FixedCapacity{9}};
  auto const dropless = layer_of<2, moe::renormalized>();
  auto const bounded  = layer_of<2, moe::renormalized>(capacity);
  for (int which = 0; which < 3; ++which) {
    CAPTURE(which);
    auto b = Batch<double>::make(dropless, sizes_of(6, 7, 5), 65, 8);
    for (index_t t = 0; t < b.tokens; ++t) {
      bool const in = which == 0 ? t % 3 != 0 : which == 1 ? t == 64 : false;
      b.mask.push_back(in ? 1 : 0);
    }
    check_against_naive<2>(dropless, b, 1e-12);
    check_against_naive<2>(bounded, b, 1e-12, 9);
  }
}
