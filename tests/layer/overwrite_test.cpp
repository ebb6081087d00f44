// Compile at -O1: many layers, little work in each.
// On every space.
// Gradients that a backward overwrites are those that it adds to zeros, whatever they held before.
#include "support/spaces.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <tuple>
#include <utility>
#include <vector>

#if !defined(__CUDACC__)
#include <moe/expert_parallel.hpp>

#include "support/diagonal_expert.hpp"
#endif

using namespace moe;
using namespace moe::test;

namespace {

constexpr bool on_host = std::is_same_v<TestSpace, Host>;

struct Shape {
  index_t tokens, hidden, experts, ffn;
};
// More experts than choices; nothing aligned for 16-byte accesses; no token at all.
constexpr Shape shapes[] = {{5, 24, 16, 40}, {37, 7, 5, 9}, {0, 16, 3, 8}};

// A list for every view of the gradients, in order.
template <class G>
using Lists = std::vector<std::vector<G>>;

// Of the lists together, each relative in the Frobenius norm; NaN if there is one.
template <class G>
double error_of(Lists<G> const& a, Lists<G> const& b)
{
  double sum     = 0;
  auto const all = [](std::vector<G> const& v) {
    std::vector<double> numbers(v.size());
    std::ranges::transform(v, numbers.begin(), &number<G>);
    return numbers;
  };
  for (std::size_t i = 0; i < b.size(); ++i) {
    sum += relative_error(all(a[i]), all(b[i]));
  }
  return a.size() == b.size() ? sum : INFINITY;
}

// One batch of a layer, forward done.
template <class T, class G, class LayerT, class ExecT>
class Batch {
 public:
  Batch(LayerT const& layer, ExecT const& exec, Shape const& s, index_t first_token = 0)
      : layer_{layer},
        exec_{exec},
        shape_{s},
        first_token_{first_token},
        params_{layer.template make_params<T>(exec, sizes(s))},
        grads_{layer.template make_params<G>(exec, sizes(s))},
        x_{put<T>(exec, normal_numbers(s.tokens * s.hidden, 1), s.tokens, s.hidden)},
        dy_{put<T>(exec, normal_numbers(s.tokens * s.hidden, 2), s.tokens, s.hidden)},
        y_(exec, s.tokens, s.hidden),
        dx_(exec, s.tokens, s.hidden),
        saved_{layer.template make_saved<T>(exec, sizes(s), s.tokens)}
  {
    initialize(exec, params_.view(), 3);
    layer.forward(exec, params_, input(), y_.view(), saved_);
  }

  // What gradients that are all `before` become in so many passes, each of which overwrites or not.
  Lists<G> after(double before, std::vector<bool> const& overwrites)
  {
    fill(before);
    for (bool const now : overwrites) {
      backward(overwrite(grads_.view(), now));
    }
    return lists();
  }
  // Without the word.
  Lists<G> added()
  {
    fill(0);
    backward(grads_.view());
    return lists();
  }
  // Of experts without rows, as the last pass left it: how many elements, and how many not zero.
  [[nodiscard]] std::array<std::size_t, 2> idle_gradients()
  {
    auto const kept = saved_.statistics(exec_).kept_per_expert;
    std::array<std::size_t, 2> n{};
    grads_.view().experts.for_each([&](char const*, auto const& view, Init const&) {
      auto const values = get(exec_, view);
      auto const each   = values.size() / kept.size();
      for (std::size_t i = 0; i < values.size(); ++i) {
        if (kept[i / each] > 0) { continue; }
        ++n[0];
        n[1] += number(values[i]) == 0 ? 0u : 1u;
      }
    });
    return n;
  }

 private:
  static typename LayerT::Sizes sizes(Shape const& s)
  {
    typename LayerT::Sizes sizes{.hidden = s.hidden, .experts = s.experts};
    if constexpr (requires { sizes.expert.ffn; }) { sizes.expert.ffn = s.ffn; }
    if constexpr (requires { sizes.shared.expert.ffn; }) { sizes.shared.expert.ffn = s.ffn; }
    return sizes;
  }
  template <class GradsT>
  void backward(GradsT const& to)
  {
    layer_.backward(exec_, params_, saved_, input(), dy_.const_view(), to, dx_.view());
  }
  [[nodiscard]] LayerInput<T, ExecT> input() const
  {
    LayerInput<T, ExecT> in{.x = x_.const_view()};
    in.first_token = first_token_;
    return in;
  }
  void fill(double value)
  {
    auto const n   = grads_.flat().size();
    auto const all = put<G>(exec_, std::vector(static_cast<std::size_t>(n), value), n);
    exec_.copy(grads_.flat().data_handle(), all.const_view().data_handle(), all.bytes());
  }
  Lists<G> lists()
  {
    Lists<G> all;
    grads_.view().for_each(
        [&](char const*, auto const& view, Init const&) { all.push_back(get(exec_, view)); });
    return all;
  }

  template <class E>
  using Owned = decltype(std::declval<LayerT>().template make_params<E>(
      std::declval<ExecT const&>(), std::declval<typename LayerT::Sizes>()));
  LayerT layer_;
  ExecT exec_;
  Shape shape_;
  index_t first_token_;
  Owned<T> params_;
  Owned<G> grads_;
  Tensor<T, 2, ExecT> x_, dy_, y_, dx_;
  typename LayerT::template Saved<T, ExecT> saved_;
};

template <class T, class G, class LayerT>
void check_layer(char const* name, LayerT const& layer)
{
  CAPTURE(name);
  for (Shape const& s : shapes) {
    for (Products const products : tested_products) {
      CAPTURE(s.tokens);
      CAPTURE(static_cast<int>(products));
      Batch<T, G, LayerT, TestSpace> batch(layer, test_space(products), s);
      auto const added = batch.added();
      auto const once = batch.after(NAN, {true}), again = batch.after(7, {true, true});
      auto const [idle, not_zero] = batch.idle_gradients();
      CHECK((idle > 0 || s.tokens > s.experts));
      CHECK(not_zero == 0);
      auto const two = batch.after(NAN, {true, false}), two_added = batch.after(0, {false, false});
      // A BLAS may sum in another order where it need not look at the old values.
      double const bound = products == Products::own ? 0 : sizeof(G) == 2 ? 2e-2 : 1e-5;
      CHECK(error_of(batch.after(0, {false}), added) == 0);
      CHECK(error_of(once, added) <= bound);
      CHECK(error_of(again, added) <= bound);
      CHECK(error_of(two, two_added) <= bound);
    }
  }
}

}  // namespace

// Element types of parameters and of gradients.
using Types =
    std::conditional_t<on_host,
                       std::tuple<std::pair<float, float>,
                                  std::pair<double, double>,
                                  std::pair<Half, float>,
                                  std::pair<BFloat16, BFloat16>>,
                       std::tuple<std::pair<float, float>, std::pair<BFloat16, BFloat16>>>;

TEST_CASE_TEMPLATE_DEFINE("overwritten is added to zeros", Pair, overwritten)
{
  using T = typename Pair::first_type;
  using G = typename Pair::second_type;
  SoftmaxTopK<2, renormalized> const router{};
  check_layer<T, G>("serial", Layer{router, Dropless{}, SerialDispatcher{}, Ffn<SwiGlu>{}});
  check_layer<T, G>("batched",
                    Layer{router,
                          Dropless{},
                          BatchedDispatcher{},
                          Ffn<Relu, with_bias>{},
                          SharedExpert<Ffn<Gelu, with_bias>, sigmoid_gated>{},
                          SwitchLoss{}});
  check_layer<T, G>("padded",
                    Layer{router,
                          DropByPosition{CeilCapacity{.factor = 0.7}},
                          BatchedDispatcher<PaddedSchedule>{},
                          Ffn<SwiGlu>{}});
}
TEST_CASE_TEMPLATE_APPLY(overwritten, Types);

#if !defined(__CUDACC__)

static_assert(OverwritesWeights<Ffn<SwiGlu, with_bias>, BFloat16, Host>);
static_assert(ExpertKernel<Diagonal, float, Host> && !OverwritesWeights<Diagonal, float, Host>);

TEST_CASE("a kernel that only adds is given zeros, as expert and as shared expert")
{
  TopKSoftmax<2> const router{};
  check_layer<float, float>("serial", Layer{router, Dropless{}, SerialDispatcher{}, Diagonal{}});
  check_layer<double, double>("shared",
                              Layer{router,
                                    Dropless{},
                                    BatchedDispatcher{},
                                    Diagonal{},
                                    SharedExpert<Diagonal, sigmoid_gated>{}});
}

namespace {

// Four experts at three ranks, in chunks of which some are empty.
template <class ExpertT, class... ExtraTs>
void check_ranks(ExpertT const& expert, ExtraTs const&... extras)
{
  ThreadWorld(3, {.deadline = std::chrono::seconds(60)}).run([&](ThreadCommunicator const& comm) {
    for (int const chunks : {1, 3}) {
      Layer const layer{SwitchRouter{},
                        Dropless{},
                        AllToAllDispatcher{comm, {.chunks = chunks}},
                        expert,
                        extras...};
      Shape const s{comm.rank() == 1 ? 0 : 2, 12, 4, 10};
      Batch<float, float, std::decay_t<decltype(layer)>, Host> batch(
          layer, one_thread(), s, 2 * comm.rank());
      auto const added = batch.added();
      CHECK(error_of(batch.after(NAN, {true}), added) == 0);
      CHECK(error_of(batch.after(NAN, {true, false}), batch.after(0, {false, false})) == 0);
    }
  });
}

}  // namespace

TEST_CASE("over ranks, where experts have no rows and chunks no experts")
{
  check_ranks(Ffn<SwiGlu, with_bias>{}, SharedExpert<Ffn<SwiGlu>>{});
  check_ranks(Diagonal{}, ReproducibleReduction{.block = 2});
}

#endif
