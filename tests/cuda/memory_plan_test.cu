// A memory plan is what a layer asks a Cuda's memory resource for; scratch of CUB's sort is asked
// of the device.
#include <moe/exec/cuda/sort_bytes.cuh>
#include <moe/layer/memory_plan.hpp>
#include <moe/moe.cuh>

#include <doctest/doctest.h>

#include <algorithm>

#include "support/space.hpp"

using namespace moe;
using namespace moe::test;

namespace {

class CountingPool final : public CudaResource {
 public:
  [[nodiscard]] std::size_t bytes() const { return bytes_; }
  [[nodiscard]] std::size_t high_water() const { return high_water_; }
  void reset_high_water() { high_water_ = bytes_; }

  void* allocate(std::size_t bytes, cudaStream_t stream) override
  {
    void* const p = pool_.allocate(bytes, stream);
    bytes_ += bytes;
    high_water_ = std::max(high_water_, bytes_);
    return p;
  }
  void deallocate(void* p, std::size_t bytes, cudaStream_t stream) noexcept override
  {
    pool_.deallocate(p, bytes, stream);
    bytes_ -= bytes;
  }
  [[nodiscard]] bool capturable() const noexcept override { return true; }

 private:
  CudaPool pool_{0};
  std::size_t bytes_ = 0, high_water_ = 0;
};

enum class Is { exact, bound };

template <class T, class G, class LayerT>
void check_plan(LayerT const& layer,
                typename LayerT::Sizes const& sizes,
                index_t tokens,
                Products products,
                Is is = Is::exact)
{
  CAPTURE(tokens);
  MemoryPlanOptions options{
      .space = {.like = MeteredSpace::cuda, .products = products, .sort_bytes = &cub_sort_bytes}};
  auto const plan          = plan_memory<T, G>(layer, sizes, tokens, options);
  options.space.sort_bytes = nullptr;
  auto const bound         = plan_memory<T, G>(layer, sizes, tokens, options);
  auto const check         = [&](std::size_t planned, std::size_t at_most, std::size_t was) {
    CHECK((is == Is::exact ? planned == was : planned >= was));
    CHECK(at_most >= was);
  };

  CountingPool counting;
  Cuda const exec(nullptr, {.resource = &counting, .products = products});
  auto params = layer.template make_params<T>(exec, sizes);
  check(plan.params, bound.params, counting.bytes());
  auto grads = layer.template make_params<G>(exec, sizes);
  check(plan.params + plan.grads, bound.params + bound.grads, counting.bytes());
  initialize(exec, params.view(), 3);
  Cuda const others;  // the caller's memory, which does not count
  auto const x = put<T>(others, normal_numbers(tokens * sizes.hidden, 1), tokens, sizes.hidden);
  Tensor<T, 2, Cuda> y(others, tokens, sizes.hidden), dx(others, tokens, sizes.hidden);
  LayerInput<T, Cuda> in{.x = x.const_view()};
  Tensor<Id, 2, Cuda> ids;
  Tensor<float, 2, Cuda> weights;
  if constexpr (detail::MeteredLayer<LayerT>::given) {
    constexpr index_t K = detail::MeteredLayer<LayerT>::choices;
    std::vector<index_t> chosen;
    for (index_t a = 0; a < tokens * K; ++a) {
      chosen.push_back(a * 7 % sizes.experts);
    }
    ids             = put<Id>(others, chosen, tokens, K);
    weights         = put<float>(others, normal_numbers(tokens * K, 2), tokens, K);
    in.given_expert = ids.const_view();
    in.given_weight = weights.const_view();
  }
  others.synchronize();

  std::size_t const base = counting.bytes();
  counting.reset_high_water();
  {
    auto saved = layer.template make_saved<T>(exec, sizes, tokens);
    layer.forward(exec, params, in, y.view(), saved);
    check(plan.forward, bound.forward, counting.high_water() - base);
    check(plan.saved, bound.saved, counting.bytes() - base);
    counting.reset_high_water();
    layer.backward(exec, params, saved, in, x.const_view(), grads.view(), dx.view());
    check(plan.backward, bound.backward, counting.high_water() - base);
  }
  counting.reset_high_water();
  layer.evaluate(exec, params, in, y.view());
  check(plan.evaluate, bound.evaluate, counting.high_water() - base);
  exec.synchronize();
}

}  // namespace

TEST_CASE("a plan is what a layer asks a Cuda for")
{
  Layer const layer{SoftmaxTopK<2, renormalized>{},
                    Dropless{},
                    BatchedDispatcher{},
                    Ffn<SwiGlu>{},
                    SwitchLoss{.coeff = 1e-2}};
  for (Products const products : {Products::own, Products::blas}) {
    for (index_t const tokens : {0, 1, 53, 20000}) {
      check_plan<BFloat16, float>(
          layer, {.hidden = 64, .experts = 6, .expert = {.ffn = 32}}, tokens, products);
    }
    for (index_t const tokens : {3, 5000}) {
      check_plan<BFloat16, BFloat16>(
          layer, {.hidden = 1000, .experts = 40, .expert = {.ffn = 8}}, tokens, products);
    }
    // Where rows are short the scratch of the plan, and so CUB's, is the most.
    check_plan<BFloat16, float>(
        layer, {.hidden = 1, .experts = 300, .expert = {.ffn = 1}}, 20000, products);
  }
}

TEST_CASE("a plan is what a layer asks a Cuda for: drops, biases, a shared expert, Half gradients")
{
  Layer const layer{TopKSoftmax<2>{},
                    DropByWeight{CeilCapacity{.factor = 0.8}},
                    BatchedDispatcher{},
                    Ffn<Gelu, with_bias>{},
                    BiasedLinearGate{},
                    SharedExpert<Ffn<SwiGlu>, sigmoid_gated>{}};
  check_plan<Half, Half>(
      layer,
      {.hidden = 40, .experts = 5, .expert = {.ffn = 24}, .shared = {.expert = {.ffn = 16}}},
      777,
      Products::blas);
}

TEST_CASE("a plan is what a layer asks a Cuda for: given choices, without room for an addend of dx")
{
  Layer const layer{GivenRouting<4>{}, Dropless{}, BatchedDispatcher{}, Ffn<SwiGlu>{}};
  decltype(layer)::Sizes const sizes{.hidden = 64, .experts = 6, .expert = {.ffn = 32}};
  for (index_t const tokens : {0, 1, 531}) {
    check_plan<BFloat16, float>(layer, sizes, tokens, Products::automatic);
  }
  CHECK(plan_memory<BFloat16, float>(layer, sizes, 531, {.space = {.like = MeteredSpace::cuda}})
            .bytes(Lifetime::backward, "addend of dx") == 0);
}

TEST_CASE("a plan of one expert at a time on cuBLAS is a bound")
{
  Layer const layer{SoftmaxTopK<2, renormalized>{}, Dropless{}, SerialDispatcher{}, Ffn<SwiGlu>{}};
  check_plan<BFloat16, BFloat16>(layer,
                                 {.hidden = 64, .experts = 6, .expert = {.ffn = 32}},
                                 531,
                                 Products::automatic,
                                 Is::bound);
}
