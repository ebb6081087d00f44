#pragma once
// One layer with everything that its passes need, and the counters that compositions are compared
// by.
#include <moe/moe.hpp>

#include "data.hpp"
#include "shapes.hpp"
#include "space.hpp"
#include "timer.hpp"

namespace moe_bench {

template <class ExecT, class LayerT, class ExpertT>
class LayerCase {
 public:
  LayerCase(LayerT const& layer, ExpertT const&, Shape const& s, moe::Products products)
      : layer_{layer}, shape_{s}, space_{products}
  {
    auto const& exec = space_.exec();
    params_          = layer_.template make_params<float>(
        exec, {.hidden = s.hidden, .experts = s.experts, .expert = {.ffn = s.ffn}});
    grads_ = layer_.template make_params<float>(exec, params_.sizes());
    fill(exec, params_.flat(), 1, std::sqrt(3.f / static_cast<float>(s.hidden)));
    x_                = uniform_tensor<float>(exec, s.tokens, s.hidden, 2, 0.5f);
    dy_               = uniform_tensor<float>(exec, s.tokens, s.hidden, 4);
    y_                = moe::Tensor<float, 2, ExecT>(exec, s.tokens, s.hidden);
    dx_               = moe::Tensor<float, 2, ExecT>(exec, s.tokens, s.hidden);
    auto const before = space_.bytes_in_use();
    saved_            = layer_.template make_saved<float>(exec, params_.sizes(), s.tokens);
    saved_bytes_      = space_.bytes_in_use() - before;
    forward();  // memory, caches and loads for the counters
  }

  [[nodiscard]] ExecT const& exec() const { return space_.exec(); }

  void forward() { layer_.forward(exec(), params_, x_.const_view(), y_.view(), saved_); }
  void backward()
  {
    layer_.backward(
        exec(), params_, saved_, x_.const_view(), dy_.const_view(), grads_.view(), dx_.view());
  }

  // Of the forward pass's products of the experts' rows that were kept; backward has twice as many.
  [[nodiscard]] double forward_flops() const
  {
    auto const s    = saved_.statistics(exec());
    auto const rows = static_cast<double>(s.assigned) * (1 - s.dropped_fraction());
    return 2. * rows * static_cast<double>(shape_.hidden) * static_cast<double>(shape_.ffn) *
           (ExpertT::arity + 1);
  }

  // Counters of a row that times forward and backward.
  void count(benchmark::State& state) const
  {
    auto const s                  = saved_.statistics(exec());
    state.counters["tokens/s"]    = per_second(static_cast<double>(shape_.tokens));
    state.counters["FLOP/s"]      = per_second(3 * forward_flops());
    state.counters["saved_bytes"] = bytes(saved_bytes_);
    state.counters["drop_rate"]   = s.dropped_fraction();
    state.counters["max/mean"]    = s.max_over_mean();
  }

 private:
  using Params =
      decltype(std::declval<LayerT>().template make_params<float>(std::declval<ExecT>(), {}));

  LayerT layer_;
  Shape shape_;
  Space<ExecT> space_;  // before what lives in its memory
  Params params_, grads_;
  moe::Tensor<float, 2, ExecT> x_, y_, dy_, dx_;
  typename LayerT::template Saved<float, ExecT> saved_;
  std::size_t saved_bytes_ = 0;
};

template <class ExecT, class LayerT, class ExpertT>
LayerCase<ExecT, LayerT, ExpertT> layer_case(LayerT const& layer,
                                             ExpertT const& expert,
                                             Shape const& s,
                                             moe::Products products = moe::Products::automatic)
{
  return {layer, expert, s, products};
}

}  // namespace moe_bench
