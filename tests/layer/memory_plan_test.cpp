// Compile at -O1: many layers, little to run.
// A memory plan is what a layer asks for: on one rank, for every kind of policy.
#include <doctest/doctest.h>

#include <moe/moe.hpp>

#include "support/measured_memory.hpp"

using moe::BFloat16, moe::index_t, moe::Lifetime, moe::Products;
using moe::test::check_measured, moe::test::measure_memory;

namespace {

moe::MemoryPlanOptions on_host(int threads, Products products = Products::own)
{
  return {.space = {.threads = threads, .products = products}};
}

template <class T, class G = T, class LayerT>
void check_plan(LayerT const& layer,
                typename LayerT::Sizes const& sizes,
                index_t tokens,
                moe::MemoryPlanOptions const& options = on_host(1))
{
  CAPTURE(tokens);
  auto const plan = moe::plan_memory<T, G>(layer, sizes, tokens, options);
  check_measured(plan, measure_memory<T, G>(layer, sizes, tokens, options));
}

auto const routed = moe::Layer{moe::SoftmaxTopK<2, moe::renormalized>{},
                               moe::Dropless{},
                               moe::BatchedDispatcher{},
                               moe::Ffn<moe::SwiGlu>{},
                               moe::SwitchLoss{.coeff = 1e-2}};
using Routed      = decltype(routed);

}  // namespace

TEST_CASE("a plan is what a layer asks for: tokens, element types, threads, products")
{
  decltype(routed)::Sizes const sizes{.hidden = 24, .experts = 6, .expert = {.ffn = 17}};
  for (index_t const tokens : {0, 1, 53}) {
    check_plan<float>(routed, sizes, tokens);
    check_plan<BFloat16, float>(routed, sizes, tokens);
  }
  // Where rows are short the plan's own scratch is the most, which depends on threads.
  for (int const threads : {1, 3}) {
    check_plan<float>(
        routed, {.hidden = 1, .experts = 5, .expert = {.ffn = 1}}, 13000, on_host(threads));
  }
  check_plan<float>(routed, sizes, 53, on_host(2, Products::automatic));
  moe::MemoryPlanOptions with_mask = on_host(1);
  with_mask.mask                   = true;
  check_plan<float>(routed, sizes, 53, with_mask);
}

TEST_CASE("a plan is what a layer asks for: drops, padded and compact slots, one expert at a time")
{
  auto const check = [](auto dispatcher, Products products) {
    moe::Layer const layer{moe::RenormalizeKept{moe::SoftmaxTopK<3>{}},
                           moe::DropByWeight{moe::CeilCapacity{.factor = 0.7}},
                           dispatcher,
                           moe::Ffn<moe::Gelu, moe::with_bias>{},
                           moe::LowRankGate{}};
    check_plan<float>(layer,
                      {.hidden = 9, .experts = 7, .expert = {.ffn = 5}, .gate = {.rank = 3}},
                      41,
                      on_host(1, products));
  };
  check(moe::BatchedDispatcher{}, Products::own);
  check(moe::BatchedDispatcher<moe::BatchedSchedule>{}, Products::own);
  check(moe::SerialDispatcher{}, Products::automatic);
}

TEST_CASE("a plan is what a layer asks for: a shared expert, losses by sequence, sums by block")
{
  moe::Layer const layer{moe::NoisyTopK<2>{},
                         moe::Dropless{},
                         moe::SerialDispatcher{},
                         moe::Ffn<moe::SwiGlu>{},
                         moe::SharedExpert<moe::Ffn<moe::SwiGlu>, moe::sigmoid_gated>{},
                         moe::CosineGate{},
                         moe::DeepSeekSequenceLoss{.coeff = 1},
                         moe::RouterZLoss{.coeff = 1},
                         moe::ReproducibleReduction{.block = 16}};
  moe::MemoryPlanOptions options = on_host(1);
  options.sequences              = 3;
  check_plan<float>(layer,
                    {.hidden  = 12,
                     .experts = 4,
                     .expert  = {.ffn = 6},
                     .gate    = {.projection = 5},
                     .shared  = {.expert = {.ffn = 10}}},
                    45,
                    options);
}

TEST_CASE("a plan is what a layer asks for: choices that vary, choices that are given")
{
  moe::Layer const choice{moe::ExpertChoice{.factor = 1.5},
                          moe::Dropless{},
                          moe::BatchedDispatcher{},
                          moe::Ffn<moe::Relu>{}};
  check_plan<float>(choice, {.hidden = 8, .experts = 5, .expert = {.ffn = 7}}, 33);
  moe::Layer const given{moe::GivenRouting<4>{},
                         moe::DropByPosition{moe::CeilCapacity{.factor = 1.25}},
                         moe::BatchedDispatcher{},
                         moe::Ffn<moe::GeGlu>{}};
  check_plan<BFloat16>(given, {.hidden = 16, .experts = 8, .expert = {.ffn = 8}}, 20);
}

// What a gate or a shared expert adds to dx takes (T, D) numbers, and x as a gate reads it under a
// mask (T, D) elements: nothing where there is neither.
TEST_CASE("room for what is added to dx only where somebody adds to it")
{
  index_t const T = 20, D = 16;
  auto const bytes   = [](index_t each) { return static_cast<std::size_t>(T * D * each); };
  auto const plan_of = [&](auto... extras) {
    moe::Layer const layer{moe::GivenRouting<4>{},
                           moe::DropByPosition{moe::CeilCapacity{.factor = 1.25}},
                           moe::BatchedDispatcher{},
                           moe::Ffn<moe::GeGlu>{},
                           extras...};
    typename decltype(layer)::Sizes sizes{.hidden = D, .experts = 8, .expert = {.ffn = 8}};
    if constexpr (requires { sizes.shared.expert; }) { sizes.shared.expert.ffn = 6; }
    auto options = on_host(1);
    check_plan<BFloat16>(layer, sizes, T, options);
    options.mask = true;
    check_plan<BFloat16>(layer, sizes, T, options);
    return moe::plan_memory<BFloat16>(layer, sizes, T, options);
  };
  moe::ReproducibleReduction const by_block{.block = 8};
  moe::SharedExpert<moe::Ffn<moe::SwiGlu>> const shared{};
  for (auto const& plan : {plan_of(), plan_of(by_block)}) {
    CHECK(plan.bytes(Lifetime::backward, "addend of dx") == 0);
    CHECK(plan.bytes(Lifetime::backward, "masked x") == 0);
  }
  for (auto const& plan : {plan_of(shared), plan_of(shared, by_block)}) {
    CHECK(plan.bytes(Lifetime::backward, "addend of dx") == bytes(sizeof(float)));
    CHECK(plan.bytes(Lifetime::backward, "masked x") == 0);
  }
  auto options    = on_host(1);
  options.mask    = true;
  auto const plan = moe::plan_memory<BFloat16>(
      routed, {.hidden = D, .experts = 6, .expert = {.ffn = 17}}, T, options);
  CHECK(plan.bytes(Lifetime::backward, "addend of dx") == bytes(sizeof(float)));
  CHECK(plan.bytes(Lifetime::backward, "masked x") == bytes(sizeof(BFloat16)));
}

TEST_CASE("sort and histogram of a meter take Host's scratch")
{
  auto const most_of =
      [](auto const& exec, auto const& counted, index_t n, int bits, index_t bins) {
        using ExecT = std::decay_t<decltype(exec)>;
        moe::Tensor<std::uint64_t, 1, ExecT> key(exec, n), key_out(exec, n);
        moe::Tensor<moe::Id, 1, ExecT> value(exec, n), value_out(exec, n), count(exec, bins);
        exec.zero(key.view().data_handle(), key.bytes());
        exec.zero(value.view().data_handle(), value.bytes());
        std::size_t const before = counted();
        moe::histogram(exec, value.const_view(), count.view());
        moe::sort_pairs(exec, bits, key.view(), value.view(), key_out.view(), value_out.view());
        return counted() - before;
      };
  for (int const threads : {1, 3}) {
    for (index_t const n : {0, 1, 9000, 17000, 50000}) {
      for (int const bits : {1, 11, 12, 40}) {
        CAPTURE(threads);
        CAPTURE(n);
        CAPTURE(bits);
        moe::test::CountingResource counting;
        moe::Host const host{{.threads = threads, .resource = &counting}};
        moe::MemoryMeter const meter({.threads = threads});
        auto const asked = [&] { return counting.all_bytes(); };
        auto const meant = [&] {
          std::size_t sum = 0;
          for (auto const& b : meter.blocks()) {
            sum += b.bytes;
          }
          return sum;
        };
        CHECK(most_of(host, asked, n, bits, 70) == most_of(meter, meant, n, bits, 70));
      }
    }
  }
}

TEST_CASE("a Host's own pool takes from the system what the plan says")
{
  decltype(routed)::Sizes const sizes{.hidden = 40, .experts = 6, .expert = {.ffn = 17}};
  index_t const tokens = 53;
  auto const options   = on_host(1);
  moe::test::CountingResource counting;
  moe::PoolingResource pool(&counting);
  moe::Host const exec{{.threads = 1, .resource = &pool, .products = Products::own}};
  moe::test::CallArguments<float, std::remove_const_t<Routed>> call(
      tokens, sizes.hidden, sizes.experts, options);
  auto params        = routed.make_params<float>(exec, sizes);
  auto grads         = routed.make_params<float>(exec, sizes);
  auto saved         = routed.make_saved<float>(exec, sizes, tokens);
  auto const planned = moe::plan_memory<float>(routed, sizes, tokens, options);
  for (int step = 0; step < 3; ++step) {
    routed.forward(exec, params, call.in, call.out(call.y), saved);
    routed.backward(exec, params, saved, call.in, call.in.x, grads.view(), call.out(call.dx));
    CHECK(counting.bytes() == planned.host_pool);
  }
}

TEST_CASE("saved for backward, buffer by buffer: nothing but what design lists")
{
  index_t const T = 100, D = 24, E = 6, F = 17, K = 2, A = T * K;
  auto const size = [](index_t n, index_t each) { return static_cast<std::size_t>(n * each); };
  auto const plan = moe::plan_memory<BFloat16, float>(
      routed, {.hidden = D, .experts = E, .expert = {.ffn = F}}, T, on_host(1));
  CHECK(plan.bytes(Lifetime::saved, "pre-activations") == size(A * 2 * F, 2));
  CHECK(plan.bytes(Lifetime::saved, "logits") == size(T * E, 4));
  CHECK(plan.bytes(Lifetime::saved, "ids") == size(A, 4));
  CHECK(plan.bytes(Lifetime::saved, "weights") == size(A, 4));
  CHECK(plan.bytes(Lifetime::saved, "plan") == size(4 * A + 2 * E + (E + 1) + 1, 4));
  CHECK(plan.bytes(Lifetime::saved, "loads of losses") == size(E + 2, 4));
  CHECK(plan.bytes(Lifetime::saved, "losses and bad input") == size(3, 4));
  std::size_t listed = 0;
  for (auto const* name : {"pre-activations",
                           "logits",
                           "ids",
                           "weights",
                           "plan",
                           "loads of losses",
                           "losses and bad input"}) {
    listed += plan.bytes(Lifetime::saved, name);
  }
  CHECK(plan.saved == listed);
  // Scratch has its names too.
  CHECK(plan.bytes(Lifetime::forward, "outputs of the experts") == size(A * D, 2));
  CHECK(plan.bytes(Lifetime::forward, "activations") == size(A * F, 2));
  CHECK(plan.bytes(Lifetime::backward, "d pre-activations") == size(A * 2 * F, 2));
  CHECK(plan.bytes(Lifetime::backward, "dx of rows") == size(A * D, 2));
  CHECK(plan.bytes(Lifetime::params, "w_in") >= size(E * 2 * F * D, 2));
  CHECK(moe::to_text(plan).find("pre-activations") != std::string::npos);
}

// On sm_90a, one kernel makes activations of x; not of rows that are no multiples of 16 bytes, not
// of float or of so few columns, and not where cuBLAS multiplies one expert at a time.
TEST_CASE("pre-activations of an evaluation are there where the space's products need them")
{
  index_t const T = 100, A = 2 * T;
  auto const evaluate = [&]<class Element>(
                            Element, auto const& layer, index_t D, index_t F, bool hopper) {
    moe::MemoryPlanOptions const on_cuda{.space = {.like     = moe::MeteredSpace::cuda,
                                                   .products = Products::automatic,
                                                   .hopper   = hopper}};
    return moe::plan_memory<Element>(
               layer, {.hidden = D, .experts = 6, .expert = {.ffn = F}}, T, on_cuda)
        .evaluate;
  };
  moe::Layer const serial{moe::SoftmaxTopK<2, moe::renormalized>{},
                          moe::Dropless{},
                          moe::SerialDispatcher{},
                          moe::Ffn<moe::SwiGlu>{},
                          moe::SwitchLoss{.coeff = 1e-2}};
  struct Extents {
    index_t D, F;
  };
  for (auto const& [D, F] : {Extents{72, 96}, Extents{72, 97}, Extents{76, 96}, Extents{64, 96}}) {
    CAPTURE(D);
    CAPTURE(F);
    bool const fits        = D % 8 == 0 && F % 8 == 0 && D > 64;
    std::size_t const made = evaluate(BFloat16{}, routed, D, F, false);
    std::size_t const kept = evaluate(BFloat16{}, routed, D, F, true);
    CHECK(made - kept == (fits ? static_cast<std::size_t>(A * 2 * F) * 2 : 0));
    CHECK(evaluate(float{}, routed, D, F, true) == evaluate(float{}, routed, D, F, false));
    CHECK(evaluate(BFloat16{}, serial, D, F, true) == evaluate(BFloat16{}, serial, D, F, false));
  }
}

TEST_CASE("a plan costs no memory: shapes that fit nowhere")
{
  moe::Layer const layer{moe::SoftmaxTopK<8, moe::renormalized>{},
                         moe::Dropless{},
                         moe::BatchedDispatcher{},
                         moe::Ffn<moe::SwiGlu>{}};
  auto const plan = moe::plan_memory<BFloat16, float>(
      layer, {.hidden = 7168, .experts = 4096, .expert = {.ffn = 65536}}, 1 << 20);
  CHECK(plan.params > std::size_t{1} << 43);  // 8 TiB
  CHECK(plan.saved > std::size_t{1} << 41);
}

TEST_CASE("a router may hold memory of the space that the layer will run in")
{
  std::vector<float> const bias(6, 0.1f);
  moe::Layer const layer{moe::SoftmaxTopK<2, moe::renormalized>{
                             .bias = moe::View<float const, 1, moe::Host>(bias.data(), index_t{6})},
                         moe::Dropless{},
                         moe::BatchedDispatcher{},
                         moe::Ffn<moe::SwiGlu>{},
                         moe::SwitchLoss{.coeff = 1e-2}};
  static_assert(std::same_as<decltype(layer), Routed>);
  check_plan<float>(layer, {.hidden = 24, .experts = 6, .expert = {.ffn = 17}}, 20);
}

TEST_CASE("a plan is refused where the layer would be")
{
  CHECK_THROWS_AS((void)moe::plan_memory<float>(routed, {.hidden = 24, .experts = 1}, 8),
                  moe::ValueError);
  CHECK_THROWS_AS((void)moe::plan_memory<float>(
                      routed, {.hidden = 24, .experts = 6, .expert = {.ffn = 17}}, -1),
                  moe::Error);
}
