#pragma once
// What routing decided: for every token a list of (expert, weight).
#include <moe/core/tensor.hpp>
#include <moe/route/router.hpp>

namespace moe {

inline constexpr Id no_expert = -1;  // an assignment that goes nowhere: masked, or given as -1

// Which assignments belong to which token: K each (assignment a = t * K + k), or, where the number
// varies (expert choice), those in [offsets(t), offsets(t + 1)). Where their number is known to the
// device alone, A is a bound: what follows offsets(T) is of no token and goes nowhere.
template <class ExecT>
struct TokenAssignments {
  index_t tokens = 0;                // T
  index_t count  = 0;                // A
  int stride     = 0;                // K; 0: offsets and token are there
  View<Id const, 1, ExecT> offsets;  // (T + 1) or empty
  View<Id const, 1, ExecT> token;    // (A) or empty

  // Only where the space computes.
  [[nodiscard]] MOE_HOST_DEVICE index_t begin(index_t t) const
  {
    return stride > 0 ? t * stride : index_t{offsets(t)};
  }
  [[nodiscard]] MOE_HOST_DEVICE index_t end(index_t t) const
  {
    return stride > 0 ? (t + 1) * stride : index_t{offsets(t + 1)};
  }
  [[nodiscard]] MOE_HOST_DEVICE index_t token_of(index_t a) const
  {
    return stride > 0 ? a / stride : index_t{token(a)};
  }
};

// Views of the same; what a stage-level router fills.
template <class S, class ExecT, class IdT = Id>
struct RoutingView {
  View<IdT, 1, ExecT> expert;   // (A), or no_expert
  View<S, 1, ExecT> weight;     // (A)
  View<IdT, 1, ExecT> offsets;  // (T + 1) or empty
  View<IdT, 1, ExecT> token;    // (A) or empty
  index_t tokens = 0;
  int stride     = 0;

  [[nodiscard]] TokenAssignments<ExecT> assignments() const
  {
    return {tokens, expert.extent(0), stride, offsets, token};
  }
};

// And what its backward reads.
template <class S, class ExecT>
using ConstRoutingView = RoutingView<S const, ExecT, Id const>;

// Owns one routing. stride 0 makes the lists of varying length.
template <class S, class ExecT>
struct Routing {
  Routing() = default;
  Routing(ExecT const& exec, index_t token_count, index_t assignment_count, int k)
      : tokens{token_count},
        stride{k},
        expert(exec, assignment_count),
        weight(exec, assignment_count),
        offsets(exec, k > 0 ? index_t{0} : token_count + 1),
        token(exec, k > 0 ? index_t{0} : assignment_count)
  {
  }
  [[nodiscard]] RoutingView<S, ExecT> view()
  {
    return {expert.view(), weight.view(), offsets.view(), token.view(), tokens, stride};
  }
  [[nodiscard]] ConstRoutingView<S, ExecT> const_view() const
  {
    return {expert.view(), weight.view(), offsets.view(), token.view(), tokens, stride};
  }
  [[nodiscard]] TokenAssignments<ExecT> assignments() const
  {
    return {tokens, expert.extent(0), stride, offsets.const_view(), token.const_view()};
  }

  index_t tokens = 0;
  int stride     = 0;
  Tensor<Id, 1, ExecT> expert;
  Tensor<S, 1, ExecT> weight;
  Tensor<Id, 1, ExecT> offsets, token;
};

// What of one forward pass routing may look at, beside logits. Empty views: every token takes part;
// the defaults of StepState; nothing given.
template <class S, class ExecT>
struct RoutingInput {
  index_t tokens  = 0;                        // T
  index_t experts = 0;                        // E
  bool training   = true;                     // false: evaluate(), no noise
  View<std::uint8_t const, 1, ExecT> mask{};  // (T), 0: the token takes no part
  View<StepState const, 1, ExecT> step{};     // (1)
  View<Id const, 2, ExecT> given_expert{};    // (T, K)
  View<S const, 2, ExecT> given_weight{};     // (T, K)
  index_t first_token   = 0;                  // global index of this rank's token 0
  index_t tokens_of_all = -1;  // T over all ranks, told to routers whose K varies; -1: T

  // Only where the space computes.
  [[nodiscard]] MOE_HOST_DEVICE bool takes_part(index_t t) const
  {
    return mask.data_handle() == nullptr || mask(t) != 0;
  }
  [[nodiscard]] MOE_HOST_DEVICE RowContext context(index_t t) const
  {
    return {first_token + t, training, step.data_handle() == nullptr ? StepState{} : step(0)};
  }
};

}  // namespace moe
