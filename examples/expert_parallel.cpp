// One layer whose experts live at several ranks, here threads of this process: every rank trains on
// its part of the batch. Ends with 0 when 3 ranks have learnt, with the losses of one.
#include <moe/expert_parallel.hpp>

#include <cmath>
#include <cstdio>
#include <mutex>
#include <utility>
#include <vector>

using moe::Host, moe::index_t;

namespace {

constexpr index_t all_tokens = 240, D = 8;
constexpr int steps = 100;

// [train_ranks]
// Teaches y = -x. The program of one rank; the error of every step, over all ranks, comes back.
std::vector<double> train(moe::ThreadCommunicator const& comm)
{
  Host const exec({.threads = 1});
  moe::Layer const layer{moe::SoftmaxTopK<2, moe::renormalized>{},
                         moe::Dropless{},
                         moe::AllToAllDispatcher{comm},  // the one line that differs
                         moe::Ffn<moe::SwiGlu>{},
                         moe::SwitchLoss{}};
  // Sizes are the whole layer's; memory is taken, and the seed gives values, for the experts here.
  auto params = layer.make_params<float>(exec, {.hidden = D, .experts = 4, .expert = {.ffn = 32}});
  auto grads  = layer.make_params<float>(exec, params.sizes());
  moe::initialize(exec, params.view(), 42);

  // Ranks hold consecutive parts of the batch; they need not be of one size.
  index_t const first = all_tokens * comm.rank() / comm.size();
  index_t const T     = all_tokens * (comm.rank() + 1) / comm.size() - first;
  moe::Tensor<float, 2, Host> x(exec, T, D), y(exec, T, D), dy(exec, T, D), dx(exec, T, D);
  std::vector<double> errors;
  for (int step = 0; step < steps; ++step) {
    float error = 0;
    for (index_t t = 0; t < T; ++t) {
      for (index_t d = 0; d < D; ++d) {
        x.view()(t, d) = std::sin(static_cast<float>((first + t) * (d + 3) % 997 + step));
      }
    }
    auto const saved = layer.forward(exec, params, x.const_view(), y.view());
    for (index_t t = 0; t < T; ++t) {
      for (index_t d = 0; d < D; ++d) {
        float const e   = y.view()(t, d) + x.view()(t, d);
        dy.view()(t, d) = e;  // of the sum over all ranks: no rank divides by its own T
        error += e * e;
      }
    }
    layer.backward(exec, params, saved, x.const_view(), dy.const_view(), grads.view(), dx.view());
    layer.all_reduce_gradients(exec, grads.view());  // gate and shared expert
    for (index_t i = 0; i < params.flat().size(); ++i) {
      params.flat()(i) -= 4e-3f * std::exchange(grads.flat()(i), 0.f);
    }
    comm.all_reduce_sum(exec, moe::View<float, 1, Host>(&error, 1));
    errors.push_back(error / (all_tokens * D));
  }
  return errors;
}
// [/train_ranks]

std::vector<double> train_with(int ranks)
{
  std::vector<double> errors;
  std::mutex mutex;
  moe::ThreadWorld(ranks).run([&](moe::ThreadCommunicator const& comm) {
    auto of_rank = train(comm);
    std::lock_guard const lock(mutex);
    if (comm.rank() == 0) { errors = std::move(of_rank); }
  });
  return errors;
}

}  // namespace

int main()
{
  auto const one = train_with(1), three = train_with(3);
  double apart = 0;
  for (std::size_t i = 0; i < one.size(); ++i) {
    apart = std::fmax(apart, std::fabs(one[i] - three[i]));
  }
  std::printf("error %.3f -> %.3f; one rank and three differ by %.1e at most\n",
              three.front(),
              three.back(),
              apart);
  return three.back() < 0.5 * three.front() && apart < 1e-4 ? 0 : 1;
}
