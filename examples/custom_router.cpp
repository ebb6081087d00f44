// A router of one's own: sigmoid scores, and a bias per expert that steers the choice but not the
// weights (DeepSeek-V3's balancing without a loss). It is the maths of one token's row; the library
// runs it over all tokens on any space and any dispatcher. Its gradient is checked in a layer.
#include <array>

#include "gradient_check.hpp"

// [router]
template <int K>
struct BiasedSigmoidRouter {
  static constexpr int top_k = K;
  float const* bias;  // (E), in the memory of the space that the layer runs in

  template <moe::Team G, class S>
  MOE_HOST_DEVICE moe::Choice<K, S> route(G team,
                                          moe::RowContext const&,
                                          moe::Row<S const> logits) const
  {
    moe::Choice<K, S> c;
    c.expert = moe::top_k<K>(
        team, logits.size(), [&](moe::Id e) { return moe::sigmoid(logits[e]) + S(bias[e]); });
    for (int k = 0; k < K; ++k) {
      c.weight[k] = moe::sigmoid(logits[c.expert[k]]);
    }
    return c;
  }
  // d_logit_k += d_weight_k w_k (1 - w_k)
  template <moe::Team G, class S>
  MOE_HOST_DEVICE void route_backward(G team,
                                      moe::RowContext const&,
                                      moe::Row<S const>,
                                      moe::Choice<K, S> const& c,
                                      moe::Array<S, K> const& d_weight,
                                      moe::Row<S> d_logits) const
  {
    for (int k = team.lane(); k < K; k += team.size()) {
      d_logits[c.expert[k]] += d_weight[k] * c.weight[k] * (1 - c.weight[k]);
    }
  }
};
static_assert(moe::RowRouter<BiasedSigmoidRouter<2>>);
// [/router]

int main()
{
  std::array<float, 5> const bias{0.3f, -0.2f, 0, 0.1f, -0.4f};
  moe::Layer const layer{BiasedSigmoidRouter<2>{bias.data()},
                         moe::DropByWeight{moe::CeilCapacity{.factor = 1}},
                         moe::BatchedDispatcher{},
                         moe::Ffn<moe::SwiGlu>{}};
  double const error =
      gradient_error(layer, {.hidden = 6, .experts = bias.size(), .expert = {.ffn = 4}}, 12);
  return error < 1e-6 ? 0 : 1;
}
