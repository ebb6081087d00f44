// Training in bfloat16: parameters and activations in bfloat16, gradients in float, master weights
// in float, a loss scale, and each step's gradient summed over micro-batches, of which the first
// overwrites the last step's, and whose saved states are the caller's, made once. Ends with 0 when
// the error has fallen to less than a fifth.
#include <moe/moe.hpp>

#include <cstdio>
#include <vector>

using moe::BFloat16, moe::Host, moe::index_t, moe::Tensor;

namespace {

constexpr int micro_batches = 2;
constexpr index_t T = 128, D = 16;

// What one micro-batch works on. The layer has saved states of its own type.
template <class SavedT>
struct MicroBatch {
  SavedT saved;
  Tensor<BFloat16, 2, Host> x, y, dy, dx;
};

// Teaches y = -x: the mean over both micro-batches of (y + x)^2, and its scaled gradient in dy.
float fill_gradient(auto& batch, float loss_scale)
{
  float const n = micro_batches * T * D;
  float sum     = 0;
  for (index_t i = 0; i < T * D; ++i) {
    float const error = batch.y.view().data_handle()[i] + batch.x.view().data_handle()[i];
    batch.dy.view().data_handle()[i] = BFloat16(loss_scale * 2 * error / n);
    sum += error * error / n;
  }
  return sum;
}

void round_to(moe::View<BFloat16, 1, Host> low, moe::View<float, 1, Host> master)
{
  for (index_t i = 0; i < master.size(); ++i) {
    low(i) = BFloat16(master(i));
  }
}

}  // namespace

int main()
{
  Host exec;
  moe::Layer const layer{moe::TopKSoftmax<2>{},
                         moe::DropByPosition{moe::CeilCapacity{.factor = 1.5}},
                         moe::BatchedDispatcher{},
                         moe::Ffn<moe::SwiGlu>{},
                         moe::SwitchLoss{.coeff = 1e-2}};
  auto master = layer.make_params<float>(exec, {.hidden = D, .experts = 4, .expert = {.ffn = 32}});
  auto params = layer.make_params<BFloat16>(exec, master.sizes());
  auto grads  = layer.make_params<float>(exec, master.sizes());
  moe::initialize(exec, master.view(), 1);
  round_to(params.flat(), master.flat());

  // The losses' gradients are scaled as dy is, by what backward reads here.
  Tensor<moe::StepState, 1, Host> step_state(exec, 1);
  float const loss_scale = 1024;
  step_state.view()(0)   = {.loss_scale = loss_scale};

  using Saved = decltype(layer)::Saved<BFloat16, Host>;
  std::vector<MicroBatch<Saved>> batches;
  auto const rows = [&] { return Tensor<BFloat16, 2, Host>(exec, T, D); };
  for (int m = 0; m < micro_batches; ++m) {
    auto saved = layer.make_saved<BFloat16>(exec, master.sizes(), T);
    batches.push_back({std::move(saved), rows(), rows(), rows(), rows()});
    for (index_t i = 0; i < T * D; ++i) {
      batches.back().x.view().data_handle()[i] = BFloat16(std::sin(static_cast<float>(i * i + m)));
    }
  }

  auto const input = [&](auto& b) {
    return moe::LayerInput<BFloat16, Host>{.x = b.x.view(), .step = step_state.view()};
  };
  float first = 0, error = 0;
  for (int step = 0; step <= 200; ++step) {
    error = 0;
    for (auto& b : batches) {  // forward of all, then backward of all, as a pipeline would
      layer.forward(exec, params, input(b), b.y.view(), b.saved);
      error += fill_gradient(b, loss_scale);
    }
    for (auto& b : batches) {
      auto const to = moe::overwrite(grads.view(), &b == &batches.front());
      layer.backward(exec, params, b.saved, input(b), b.dy.view(), to, b.dx.view());
    }
    for (index_t i = 0; i < master.flat().size(); ++i) {
      master.flat()(i) -= 2.0f / loss_scale * grads.flat()(i);
    }
    round_to(params.flat(), master.flat());
    if (step == 0) { first = error; }
    if (step % 50 == 0) { std::printf("step %3d: error %.4f\n", step, error); }
  }
  return error < first / 5 ? 0 : 1;
}
