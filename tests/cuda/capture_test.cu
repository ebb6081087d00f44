// What cannot be captured into a graph is refused before it breaks the caller's capture.
#include "support/cuda_resource.hpp"
#include "support/cuda_step.hpp"

#include <doctest/doctest.h>

using namespace moe;
using namespace moe::test;

namespace {

// A capture of the caller's, which must come to its end whatever was refused within it.
class Capture {
 public:
  explicit Capture(cudaStream_t stream) : stream_{stream}
  {
    REQUIRE(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
  }
  [[nodiscard]] bool goes_on() const
  {
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    return cudaStreamIsCapturing(stream_, &status) == cudaSuccess &&
           status == cudaStreamCaptureStatusActive;
  }
  // Returns how many pieces of work were captured.
  std::size_t end()
  {
    REQUIRE(cudaStreamEndCapture(stream_, &graph_) == cudaSuccess);
    std::size_t nodes = 0;
    REQUIRE(cudaGraphGetNodes(graph_, nullptr, &nodes) == cudaSuccess);
    REQUIRE(cudaGraphDestroy(graph_) == cudaSuccess);
    REQUIRE(cudaGetLastError() == cudaSuccess);
    return nodes;
  }

 private:
  cudaStream_t stream_;
  cudaGraph_t graph_ = nullptr;
};

}  // namespace

TEST_CASE("memory that is not capturable: a step is refused at its entry")
{
  WatchedPool pool(0, /*capturable*/ false);
  Step step{Cuda(nullptr, {.resource = &pool})};
  step.run();
  auto const expected     = step.bits();
  std::size_t const asked = pool.asked();

  Capture capture(step.exec.stream());
  auto const refused = doctest::Contains("the memory resource is not capturable, must be");
  CHECK_THROWS_WITH_AS(step.forward(), refused, StateError);
  CHECK_THROWS_WITH_AS(step.backward(), refused, StateError);
  CHECK_THROWS_WITH_AS(
      step_layer.evaluate(step.exec, step.params, step.x.const_view(), step.y.view()),
      refused,
      StateError);
  CHECK_THROWS_WITH_AS((void)step_layer.make_saved<ElementT>(step.exec, step.params.sizes(), T),
                       refused,
                       StateError);
  CHECK(capture.goes_on());
  CHECK(pool.asked() == asked);
  CHECK(capture.end() == 0);

  step.run();
  CHECK(step.bits() == expected);
}

TEST_CASE("waiting for the device, and what is read from the program's memory")
{
  Step step{Cuda{}};
  step.run();
  auto const expected = step.bits();
  std::vector<float> to(4);
  auto const weight = step.saved.routing.weight.const_view().data_handle();

  Capture capture(step.exec.stream());
  auto const refused = doctest::Contains("the stream is being captured into a graph, must be");
  CHECK_THROWS_WITH_AS((void)step.saved.statistics(step.exec), refused, StateError);
  CHECK_THROWS_WITH_AS((void)step.saved.losses(step.exec), refused, StateError);
  CHECK_THROWS_WITH_AS(step.exec.synchronize(), refused, StateError);
  CHECK_THROWS_WITH_AS(
      step.exec.copy_to_host(to.data(), weight, 4 * sizeof(float)), refused, StateError);
  CHECK_THROWS_WITH_AS(step.set_state({}), refused, StateError);
  CHECK(capture.goes_on());
  CHECK(capture.end() == 0);

  step.run();
  CHECK(step.bits() == expected);
}

TEST_CASE(
    "the serial dispatcher on cuBLAS waits for row counts, with the library's own it does not")
{
  auto const serial = Layer{GivenRouting<2>{}, Dropless{}, SerialDispatcher{}, Ffn<SwiGlu>{}};
  std::vector<index_t> ids;
  for (index_t a = 0; a < 2 * T; ++a) {
    ids.push_back(a * 3 % E);
  }
  for (Products const products : {Products::automatic, Products::own}) {
    CAPTURE((products == Products::own));
    Cuda const exec(nullptr, {.products = products});
    auto params =
        serial.make_params<ElementT>(exec, {.hidden = D, .experts = E, .expert = {.ffn = F}});
    initialize(exec, params.view(), 1);
    auto const x      = put<ElementT>(exec, normal_numbers(T * D, 1), T, D);
    auto const expert = put<Id>(exec, ids, T, 2);
    auto const weight = put<float>(exec, normal_numbers(2 * T, 2), T, 2);
    Tensor<ElementT, 2, Cuda> y(exec, T, D);
    auto const evaluate = [&] {
      serial.evaluate(exec,
                      params,
                      LayerInput<ElementT, Cuda>{.x            = x.const_view(),
                                                 .given_expert = expert.const_view(),
                                                 .given_weight = weight.const_view()},
                      y.view());
      return 0;
    };
    evaluate();
    auto const expected = get_numbers(exec, y.const_view());

    Capture capture(exec.stream());
    if (products == Products::own) {
      CHECK_NOTHROW(evaluate());
    } else {
      CHECK_THROWS_WITH_AS(
          evaluate(), doctest::Contains("SerialDispatcher's row counts on cuBLAS"), StateError);
    }
    CHECK(capture.goes_on());
    CHECK(capture.end() > 0);

    evaluate();
    CHECK(get_numbers(exec, y.const_view()) == expected);
  }
}

TEST_CASE("a cuBLAS handle is made before a capture")
{
  Cuda const exec;
  Capture capture(exec.stream());
  CHECK_THROWS_WITH_AS(
      (void)exec.cublas(), doctest::Contains("the cuBLAS handle is not made yet"), StateError);
  CHECK(capture.goes_on());
  CHECK(capture.end() == 0);
  CHECK(exec.cublas() != nullptr);
}
