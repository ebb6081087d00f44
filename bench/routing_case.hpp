#pragma once
// Logits and what a router made of them, for the stages between gate and experts.
#include <moe/route/route.hpp>

#include "data.hpp"
#include "space.hpp"

namespace moe_bench {

template <class ExecT, class RouterT>
class RoutingCase {
 public:
  static constexpr int top_k = RouterT::top_k;

  RoutingCase(index_t T, index_t E)
      : tokens{T},
        experts{E},
        logits{uniform_tensor<float>(exec(), T, moe::logit_columns<RouterT>(E), 1, 0.5f)},
        routing{exec(), T, T * top_k, top_k}
  {
    route();
  }
  [[nodiscard]] ExecT const& exec() const { return space_.exec(); }
  [[nodiscard]] moe::RoutingInput<float, ExecT> input() const { return {tokens, experts}; }

  void route()
  {
    moe::as_stage(RouterT{}).route(
        exec(), moe::SelfCommunicator{}, input(), logits.const_view(), routing.view());
  }

 private:
  Space<ExecT> space_;

 public:
  index_t tokens, experts;
  moe::Tensor<float, 2, ExecT> logits;  // (T, N)
  moe::Routing<float, ExecT> routing;
};

}  // namespace moe_bench
