#pragma once
// Routing that the caller decided: replay of a recorded one, or a router of the caller's own.
#include <moe/route/route.hpp>

namespace moe {
namespace detail {

template <class S, class ExecT>
struct TakeGivenRow {
  RoutingInput<S, ExecT> in;
  RoutingView<S, ExecT> routing;

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t t) const
  {
    for (int k = team.lane(); k < routing.stride; k += team.size()) {
      index_t const a = t * routing.stride + k;
      Id const e      = in.given_expert(t, k);
      bool const goes = in.takes_part(t) && e >= 0 && e < in.experts;
      // Another id than -1 or an expert's cannot be refused without waiting for the device: it
      // takes no slot and is counted (LoadStatistics::invalid_ids).
      routing.expert(a) = goes ? e : (in.takes_part(t) && e != no_expert ? invalid_id : no_expert);
      routing.weight(a) = goes ? in.given_weight(t, k) : S{0};
    }
  }
  static constexpr Id invalid_id = -2;
};

}  // namespace detail

// Ids (T, K) and weights (T, K) come with the layer's input; the weights' gradient comes back from
// backward. Id -1 is no expert; an expert named twice by one token is computed twice. Needs no
// gate.
template <int K>
struct GivenRouting {
  static_assert(K >= 1 && K <= max_top_k, "moe::GivenRouting: K must be in 1 ... 32");
  static constexpr bool stage_level = true;
  static constexpr bool given       = true;
  static constexpr int top_k        = K;

  [[nodiscard]] static constexpr index_t logit_columns(index_t) { return 0; }
  [[nodiscard]] static constexpr index_t assignments(index_t tokens, index_t) { return tokens * K; }

  template <class ExecT, class CommT, class S>
  void route(ExecT const& exec,
             CommT const&,
             RoutingInput<S, ExecT> const& in,
             View<S const, 2, ExecT>,
             RoutingView<S, ExecT> routing) const
  {
    exec.for_each_row(in.tokens, detail::TakeGivenRow<S, ExecT>{in, routing});
  }
  // Nothing here: the layer hands d_weight itself to the caller.
  template <class ExecT, class S>
  void route_backward(ExecT const&,
                      RoutingInput<S, ExecT> const&,
                      View<S const, 2, ExecT>,
                      ConstRoutingView<S, ExecT>,
                      View<S const, 1, ExecT>,
                      View<S, 2, ExecT>) const
  {
  }
};

}  // namespace moe
