// Training steps on a GPU in a plain program: the program's own pointers and stream, bfloat16
// parameters with float gradients, a caller-owned saved state, and no synchronisation within a step.
// By itself: nvcc -std=c++20 -gencode arch=compute_90a,code=sm_90a -Iinclude
//            examples/cuda_training.cu -lcublas -o cuda_training
#include <moe/moe.cuh>

#include <cstdio>
#include <vector>

namespace {

constexpr moe::index_t T = 512, D = 64, E = 8, F = 128;

using T16 = moe::BFloat16;

void check(cudaError_t result)
{
  if (result != cudaSuccess) {
    std::puts(cudaGetErrorString(result));
    std::exit(1);
  }
}

// dy = y + x, the gradient of |y + x|^2 / 2: the layer learns y = -x.
__global__ void error_kernel(T16 const* x, T16 const* y, T16* dy)
{
  moe::index_t const i = blockIdx.x * 256 + threadIdx.x;
  dy[i]                = T16(float(y[i]) + float(x[i]));
}

// Plain gradient descent on float copies of the parameters.
__global__ void update_kernel(float* master, float const* grad, T16* param, moe::index_t n)
{
  moe::index_t const i = blockIdx.x * 256 + threadIdx.x;
  if (i >= n) { return; }
  master[i] -= 2e-3f * grad[i];
  param[i] = T16(master[i]);
}

float squares(std::vector<T16> const& v)
{
  float sum = 0;
  for (T16 const x : v) {
    sum += float(x) * float(x);
  }
  return sum / float(v.size());
}

}  // namespace

int main()
{
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::puts("no CUDA driver or no GPU: nothing to show");
    return 0;
  }
  cudaStream_t stream = nullptr;
  check(cudaStreamCreate(&stream));
  moe::Cuda const exec(stream);

  moe::Layer const layer{moe::SoftmaxTopK<2, moe::renormalized>{}, moe::Dropless{},
                         moe::BatchedDispatcher{}, moe::Ffn<moe::SwiGlu>{}, moe::SwitchLoss{}};
  auto params = layer.make_params<T16>(exec, {.hidden = D, .experts = E, .expert = {.ffn = F}});
  auto master = layer.make_params<float>(exec, params.sizes());
  auto grads  = layer.make_params<float>(exec, params.sizes());
  moe::initialize(exec, params.view(), 42);
  moe::initialize(exec, master.view(), 42);
  auto saved = layer.make_saved<T16>(exec, params.sizes(), T);

  T16* memory = nullptr;  // x, y, dy, dx
  check(cudaMallocAsync(&memory, 4 * T * D * sizeof(T16), stream));
  auto const view = [&](int i) { return moe::View<T16, 2, moe::Cuda>(memory + i * T * D, T, D); };
  std::vector<T16> x(T * D), dy(T * D);
  float first = 0, last = 0;
  for (int step = 0; step <= 200; ++step) {
    for (std::size_t i = 0; i < x.size(); ++i) {
      x[i] = T16(std::sin(float(i * i % 7919 + std::size_t(step))));
    }
    check(cudaMemcpyAsync(view(0).data_handle(), x.data(), x.size() * sizeof(T16),
                          cudaMemcpyHostToDevice, stream));
    layer.forward(exec, params, view(0), view(1), saved);
    error_kernel<<<T * D / 256, 256, 0, stream>>>(memory, memory + T * D, memory + 2 * T * D);
    auto const to = moe::overwrite(grads.view());  // one batch a step: nothing to add to
    layer.backward(exec, params, saved, view(0), view(2), to, view(3));
    moe::index_t const n = params.flat().size();
    update_kernel<<<unsigned((n + 255) / 256), 256, 0, stream>>>(
        master.flat().data_handle(), grads.flat().data_handle(), params.flat().data_handle(), n);
    if (step % 50 != 0) { continue; }
    check(cudaMemcpyAsync(dy.data(), view(2).data_handle(), dy.size() * sizeof(T16),
                          cudaMemcpyDeviceToHost, stream));
    check(cudaStreamSynchronize(stream));  // to print, not for the layer
    last  = squares(dy);
    first = step == 0 ? last : first;
    std::printf("step %3d: error %.4f\n", step, last);
  }
  check(cudaFreeAsync(memory, stream));
  return last < first / 4 ? 0 : 1;
}
