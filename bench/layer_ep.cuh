#pragma once
// One rank's passes of a layer whose experts are spread over ranks: the shapes, T tokens per rank,
// and the routing of peers/bench_peers_ep.py, which is given and uniformly random.
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include <moe/expert_parallel.hpp>

#include "data.hpp"
#include "ranks.cuh"
#include "shapes.hpp"

namespace moe_bench {

using Element = moe::BFloat16;

namespace ep {

inline constexpr Shape qwen3{"qwen3", 2048, 768, 128, 8, 1, 8192};
inline constexpr Shape qwen3_32k{"qwen3-32k", 2048, 768, 128, 8, 1, 32768};
inline constexpr Shape dsv3_64{"dsv3-64", 7168, 2048, 64, 8, 1, 8192};
inline constexpr Shape olmoe{"olmoe", 2048, 1024, 64, 8, 1, 8192};

// add(K, shape) for each of them, K a constant in its type.
template <class Add>
void for_each_shape(Add const& add)
{
  add(std::integral_constant<int, 2>{}, moe_bench::mixtral.full());
  add(std::integral_constant<int, 4>{}, moe_bench::dbrx.full());
  add(std::integral_constant<int, 8>{}, dsv3_64);
  add(std::integral_constant<int, 8>{}, olmoe);
  add(std::integral_constant<int, 8>{}, qwen3);
  add(std::integral_constant<int, 8>{}, qwen3_32k);
}

// Seconds of a forward pass, and of a forward and a backward pass.
struct Times {
  double forward = 0, both = 0;
};

// Of a forward pass of one rank: 2 A D (2F) + 2 A F D.
inline double flops(Shape const& s)
{
  return 6. * static_cast<double>(s.tokens * s.top_k) * static_cast<double>(s.hidden * s.ffn);
}

// Ids of more experts than there are: a token that has more choices than experts chooses one twice.
struct WrapIdRow {
  moe::Id* id;
  moe::Id experts;

  template <moe::Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t a) const
  {
    if (team.lane() == 0) { id[a] %= experts; }
  }
};

// bf16, with gradients in bf16; a state that is used again.
template <int K, class LayerT>
class RankCase {
 public:
  RankCase(Cuda const& exec, LayerT const& layer, Shape const& s, int rank)
      : layer_{layer},
        shape_{s},
        params_{layer.template make_params<Element>(
            exec, {.hidden = s.hidden, .experts = s.experts, .expert = {.ffn = s.ffn}})},
        grads_{layer.template make_params<Element>(exec, params_.sizes())},
        x_{uniform_tensor<Element>(exec, s.tokens, s.hidden, seed(rank, 0))},
        dy_{uniform_tensor<Element>(exec, s.tokens, s.hidden, seed(rank, 1))},
        y_{exec, s.tokens, s.hidden},
        dx_{exec, s.tokens, s.hidden},
        given_{exec, s.tokens, s.tokens * K, K},
        d_given_weight_{exec, s.tokens, K},
        saved_{layer.template make_saved<Element>(exec, params_.sizes(), s.tokens)}
  {
    fill(exec, params_.flat(), 1, std::sqrt(3.f / static_cast<float>(s.hidden)));
    index_t const experts = std::max<index_t>(s.experts, K);
    auto const logits     = uniform_tensor<float>(exec, s.tokens, experts, seed(rank, 2));
    moe::as_stage(moe::TopKSoftmax<K>{})
        .route(exec,
               moe::SelfCommunicator{},
               moe::RoutingInput<float, Cuda>{s.tokens, experts},
               logits.const_view(),
               given_.view());
    exec.for_each_row(
        s.tokens * K,
        WrapIdRow{given_.expert.view().data_handle(), static_cast<moe::Id>(s.experts)});
  }

  // On `exec` or on one like it that has a profiler.
  void forward(Cuda const& exec) { layer_.forward(exec, params_, input(), y_.view(), saved_); }
  void backward(Cuda const& exec)
  {
    layer_.backward(exec,
                    params_,
                    saved_,
                    input(),
                    dy_.const_view(),
                    moe::overwrite(grads_.view()),
                    dx_.view(),
                    d_given_weight_.view());
  }
  void both(Cuda const& exec)
  {
    forward(exec);
    backward(exec);
  }

 private:
  using Params =
      decltype(std::declval<LayerT>().template make_params<Element>(std::declval<Cuda>(), {}));

  static std::uint32_t seed(int rank, int of)
  {
    return static_cast<std::uint32_t>(2 + 10 * rank + 3 * of);
  }
  [[nodiscard]] typename LayerT::template Input<Element, Cuda> input() const
  {
    typename LayerT::template Input<Element, Cuda> in{.x = x_.const_view()};
    in.given_expert = moe::View<moe::Id const, 2, Cuda>(
        given_.expert.const_view().data_handle(), shape_.tokens, K);
    in.given_weight =
        moe::View<float const, 2, Cuda>(given_.weight.const_view().data_handle(), shape_.tokens, K);
    return in;
  }

  LayerT layer_;
  Shape shape_;
  Params params_, grads_;
  moe::Tensor<Element, 2, Cuda> x_, dy_, y_, dx_;
  moe::Routing<float, Cuda> given_;
  moe::Tensor<float, 2, Cuda> d_given_weight_;
  typename LayerT::template Saved<Element, Cuda> saved_;
};

template <int K, class DispatcherT>
[[nodiscard]] auto layer_of(DispatcherT const& dispatcher)
{
  return moe::Layer{moe::GivenRouting<K>{}, moe::Dropless{}, dispatcher, moe::Ffn<moe::SwiGlu>{}};
}
template <int K, class LayerT>
[[nodiscard]] RankCase<K, LayerT> rank_case(Cuda const& exec,
                                            LayerT const& layer,
                                            Shape const& shape,
                                            int rank = 0)
{
  return {exec, layer, shape, rank};
}

// In files of their own, to compile side by side.
void add_worlds();
void add_delayed();
void add_alone();

}  // namespace ep
}  // namespace moe_bench
