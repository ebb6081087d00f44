// What callers hand over: pointers of any alignment and of the wrong memory, streams of any kind.
#include "support/cuda_step.hpp"

#include <doctest/doctest.h>

using namespace moe;
using namespace moe::test;

namespace {

// The elements of `from`, `shift` bytes past an aligned address.
template <class V>
class Shifted {
 public:
  Shifted(Cuda const& exec, V const* from, index_t n, int shift)
      : memory_(exec, n * static_cast<index_t>(sizeof(V)) + 256),
        at_{reinterpret_cast<V*>(memory_.view().data_handle() + shift)}
  {
    exec.copy(memory_.view().data_handle() + shift, from, static_cast<std::size_t>(n) * sizeof(V));
  }
  [[nodiscard]] V* data() const { return at_; }

 private:
  Tensor<unsigned char, 1, Cuda> memory_;
  V* at_;
};

// The step with everything that the caller owns `shift` bytes past an aligned address.
struct ShiftedStep {
  Step& step;
  Shifted<ElementT> x, dy, y, dx, params;
  Shifted<float> grads;

  ShiftedStep(Step& s, int shift)
      : step{s},
        x(s.exec, s.x.const_view().data_handle(), T * D, shift),
        dy(s.exec, s.dy.const_view().data_handle(), T * D, shift),
        y(s.exec, s.y.const_view().data_handle(), T * D, shift),
        dx(s.exec, s.dx.const_view().data_handle(), T * D, shift),
        params(s.exec, s.params.const_flat().data_handle(), s.params.const_flat().size(), shift),
        grads(s.exec, s.grads.const_flat().data_handle(), s.grads.const_flat().size(), shift)
  {
  }
  template <class V>
  auto views(V* base) const
  {
    Carver<V, Cuda> carver(base);
    return StepLayer::Params<V, Cuda>::carve(carver, step.params.sizes());
  }
  void run(bool backward = true) const
  {
    Cuda const& exec      = step.exec;
    index_t const n_grads = step.grads.const_flat().size();
    exec.zero(grads.data(), static_cast<std::size_t>(n_grads) * sizeof(float));
    auto const p = views<ElementT const>(params.data());
    LayerInput<ElementT, Cuda> const in{.x    = View<ElementT const, 2, Cuda>(x.data(), T, D),
                                        .step = step.state.const_view()};
    step_layer.forward(exec, p, in, View<ElementT, 2, Cuda>(y.data(), T, D), step.saved);
    if (!backward) { return; }
    step_layer.backward(exec,
                        p,
                        step.saved,
                        in,
                        View<ElementT const, 2, Cuda>(dy.data(), T, D),
                        views<float>(grads.data()),
                        View<ElementT, 2, Cuda>(dx.data(), T, D));
  }
};

template <class V>
std::vector<double> numbers_at(Cuda const& exec, V const* from, index_t n)
{
  return get_numbers(exec, View<V const, 1, Cuda>(from, n));
}

// Keeps a stream busy for about so many milliseconds.
__global__ void wait_kernel(int milliseconds)
{
  for (int i = 0; i < milliseconds * 2; ++i) {
    __nanosleep(500000);
  }
}

}  // namespace

TEST_CASE("pointers off 16 bytes: exact where elements may lie there, else refused")
{
  Step step{Cuda{}};
  step.run();
  auto const y     = get_numbers(step.exec, step.y.const_view());
  auto const dx    = get_numbers(step.exec, step.dx.const_view());
  auto const grads = get_numbers(step.exec, step.grads.const_flat());
  for (int const shift : {0, 4, 8, 12, 16}) {  // float gradients, bfloat16 for the rest
    CAPTURE(shift);
    ShiftedStep const shifted(step, shift);
    shifted.run();
    // Other kernels add in another order.
    CHECK(relative_error(numbers_at(step.exec, shifted.y.data(), T * D), y) < 6e-3);
    CHECK(relative_error(numbers_at(step.exec, shifted.dx.data(), T * D), dx) < 6e-3);
    auto const got = numbers_at(step.exec, shifted.grads.data(), step.grads.const_flat().size());
    CHECK(relative_error(got, grads) < 6e-3);
  }
  ShiftedStep const by_two(step, 2);
  by_two.run(/*backward*/ false);  // bfloat16 alone
  CHECK(relative_error(numbers_at(step.exec, by_two.y.data(), T * D), y) < 6e-3);
  CHECK_THROWS_WITH_AS(
      by_two.run(),
      doctest::Contains(
          "moe::Layer::backward: gradient of gate.w is misaligned by 2, must be aligned "
          "to 4 bytes"),
      ValueError);
  CHECK_THROWS_WITH_AS(
      ShiftedStep(step, 1).run(),
      doctest::Contains("moe::Layer::forward: y is misaligned by 1, must be aligned to 2 bytes"),
      ValueError);
}

TEST_CASE("null, host memory, another device's: each its sentence, before any work")
{
  Step step{Cuda{}};
  step.run();
  auto const expected = step.bits();
  auto const x_at     = [&](ElementT const* p) {
    auto in = step.input();
    in.x    = View<ElementT const, 2, Cuda>(p, T, D);
    return in;
  };
  std::vector<ElementT> on_host(static_cast<std::size_t>(T * D));

  CHECK_THROWS_WITH_AS(step.forward(x_at(nullptr), step.y.view()),
                       doctest::Contains("x is null, must be a pointer to 8384 elements"),
                       ValueError);
  CHECK_THROWS_WITH_AS(step.forward(x_at(on_host.data()), step.y.view()),
                       doctest::Contains("x is host memory, must be memory that the GPU can use"),
                       ValueError);
  CHECK_THROWS_WITH_AS(step.forward(step.input(), View<ElementT, 2, Cuda>(on_host.data(), T, D)),
                       doctest::Contains("y is host memory"),
                       ValueError);
  auto p         = step.params.const_view();
  p.experts.w_in = View<ElementT const, 3, Cuda>(on_host.data(), p.experts.w_in.extents());
  CHECK_THROWS_WITH_AS(step_layer.forward(step.exec, p, step.input(), step.y.view(), step.saved),
                       doctest::Contains("w_in is host memory"),
                       ValueError);
  auto g = step.grads.view();
  g.experts.w_out =
      View<float, 3, Cuda>(reinterpret_cast<float*>(on_host.data()), g.experts.w_out.extents());
  CHECK_THROWS_WITH_AS(step_layer.backward(step.exec,
                                           step.params,
                                           step.saved,
                                           step.input(),
                                           step.dy.const_view(),
                                           g,
                                           step.dx.view()),
                       doctest::Contains("gradient of w_out is host memory"),
                       ValueError);
  CHECK(cudaGetLastError() == cudaSuccess);
  CHECK(step.bits() == expected);

  // Managed and pinned memory a kernel can use, if slowly.
  for (bool const managed : {true, false}) {
    CAPTURE(managed);
    void* memory = nullptr;
    REQUIRE((managed ? cudaMallocManaged(&memory, step.x.bytes())
                     : cudaMallocHost(&memory, step.x.bytes())) == cudaSuccess);
    step.exec.copy_to_host(memory, step.x.const_view().data_handle(), step.x.bytes());
    step.forward(x_at(static_cast<ElementT const*>(memory)), step.y.view());
    step.exec.synchronize();
    CHECK(step.bits() == expected);
    REQUIRE((managed ? cudaFree(memory) : cudaFreeHost(memory)) == cudaSuccess);
  }

  int devices = 0;
  REQUIRE(cudaGetDeviceCount(&devices) == cudaSuccess);
  if (devices > 1) {
    REQUIRE(cudaSetDevice(1) == cudaSuccess);
    void* memory = nullptr;
    REQUIRE(cudaMalloc(&memory, step.x.bytes()) == cudaSuccess);
    CHECK_THROWS_WITH_AS(
        step.forward(),
        doctest::Contains("the current device is 1, must be the Cuda handle's (0)"),
        StateError);
    REQUIRE(cudaSetDevice(0) == cudaSuccess);
    CHECK_THROWS_WITH_AS(
        step.forward(x_at(static_cast<ElementT const*>(memory)), step.y.view()),
        doctest::Contains("x is memory of device 1, must be memory of the Cuda handle's (0)"),
        ValueError);
    REQUIRE(cudaFree(memory) == cudaSuccess);
  }
}

TEST_CASE("null without elements is fine; a handle that was moved from is refused")
{
  Cuda exec;
  auto const params =
      step_layer.make_params<ElementT>(exec, {.hidden = D, .experts = E, .expert = {.ffn = F}});
  View<ElementT const, 2, Cuda> const x(nullptr, 0, D);
  View<ElementT, 2, Cuda> const y(nullptr, 0, D);
  auto saved = step_layer.make_saved<ElementT>(exec, params.sizes(), 0);
  CHECK_NOTHROW(step_layer.forward(exec, params, x, y, saved));
  auto grads = step_layer.make_params<float>(exec, params.sizes());
  CHECK_NOTHROW(step_layer.backward(exec, params, saved, x, x, grads.view(), y));
  for (double const g : get_numbers(exec, grads.const_flat())) {
    REQUIRE(g == 0);
  }
  Cuda const moved = std::move(exec);
  CHECK_THROWS_WITH_AS(step_layer.forward(exec, params, x, y, saved),
                       doctest::Contains("the Cuda handle is empty"),
                       StateError);
  CHECK_NOTHROW(step_layer.forward(moved, params, x, y, saved));
}

TEST_CASE("the legacy, the per-thread, a blocking and a non-blocking stream: the same bits")
{
  Step reference{Cuda{}};
  reference.run();
  auto const expected     = reference.bits();
  cudaStream_t streams[2] = {};
  REQUIRE(cudaStreamCreate(&streams[0]) == cudaSuccess);
  REQUIRE(cudaStreamCreateWithFlags(&streams[1], cudaStreamNonBlocking) == cudaSuccess);
  for (cudaStream_t const stream : {cudaStream_t{cudaStreamLegacy},
                                    cudaStream_t{cudaStreamPerThread},
                                    streams[0],
                                    streams[1]}) {
    Step step{Cuda(stream)};
    CHECK(step.exec.stream() == stream);
    step.run();
    CHECK(step.bits() == expected);
  }
  // Two handles on two streams, both busy at once.
  {
    Step a{Cuda(streams[0])}, b{Cuda(streams[1])};
    for (int i = 0; i < 10; ++i) {
      a.run();
      b.run();
    }
    CHECK(a.bits() == expected);
    CHECK(b.bits() == expected);
  }
  REQUIRE(cudaStreamDestroy(streams[0]) == cudaSuccess);
  REQUIRE(cudaStreamDestroy(streams[1]) == cudaSuccess);
}

TEST_CASE("a fill of the outputs that is still on its way comes before what the layer writes")
{
  Step step{Cuda{}};
  step.run();
  auto const expected = step.bits();
  // On the layer's own stream, and on the legacy default stream, which waits for it and it for
  // that.
  for (cudaStream_t const stream : {step.exec.stream(), cudaStream_t{cudaStreamLegacy}}) {
    wait_kernel<<<1, 1, 0, stream>>>(50);
    REQUIRE(cudaMemsetAsync(step.y.view().data_handle(), 0xff, step.y.bytes(), stream) ==
            cudaSuccess);
    REQUIRE(cudaMemsetAsync(step.dx.view().data_handle(), 0xff, step.dx.bytes(), stream) ==
            cudaSuccess);
    step.run();
    CHECK(step.bits() == expected);
  }
}
