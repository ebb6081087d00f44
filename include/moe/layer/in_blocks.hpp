#pragma once
// Gate and shared expert block by block of tokens, each block with a state of its own, as
// ReproducibleReduction wants them: what they compute of a block is then the same wherever it is.
#include <algorithm>
#include <type_traits>
#include <utility>
#include <vector>

#include <moe/comm/sum_blocks.hpp>
#include <moe/exec/gemm.hpp>
#include <moe/expert/shared_expert.hpp>
#include <moe/layer/reproducible_reduction.hpp>
#include <moe/route/gate.hpp>

namespace moe::detail {

// Rows [b block, (b + 1) block) of x (T, N), or fewer at the end.
template <class T, class ExecT>
View<T, 2, ExecT> rows_of_block(View<T, 2, ExecT> x, index_t block, index_t b)
{
  index_t const first = b * block;
  return View<T, 2, ExecT>(
      x.data_handle() + first * x.extent(1), std::min(block, x.extent(0) - first), x.extent(1));
}

// make(tokens of the block) for every block.
template <class Make>
auto for_blocks(index_t tokens, index_t block, Make const& make)
{
  std::vector<std::decay_t<decltype(make(block))>> all;
  all.reserve(static_cast<std::size_t>(token_blocks(tokens, block)));
  for (index_t first = 0; first < tokens; first += block) {
    all.push_back(make(std::min(block, tokens - first)));
  }
  return all;
}

// A gate or a shared expert whose states are those of its blocks.
template <class PartT, class LayoutT>
struct PartInBlocks {
  using Sizes  = typename PartT::Sizes;
  using Layout = LayoutT;

  PartT part{};
  index_t block = 1;  // tokens

  template <class T, class ExecT>
  using Params = typename PartT::template Params<T, ExecT>;
  template <class T, class ExecT>
  struct Saved {
    std::vector<typename PartT::template Saved<T, ExecT>> blocks;
  };
  template <class T, class ExecT>
  struct Carry {
    std::vector<typename PartT::template Carry<T, ExecT>> blocks;
  };
  template <class T, class ExecT>
  [[nodiscard]] Saved<T, ExecT> make_saved(ExecT const& exec, Layout const& s, index_t tokens) const
  {
    return {for_blocks(
        tokens, block, [&](index_t n) { return part.template make_saved<T>(exec, s, n); })};
  }
  template <class T, class ExecT>
  [[nodiscard]] Carry<T, ExecT> make_carry(ExecT const& exec, Layout const& s, index_t tokens) const
  {
    return {for_blocks(
        tokens, block, [&](index_t n) { return part.template make_carry<T>(exec, s, n); })};
  }

  void check(Check const& check, Layout const& s) const
  {
    if constexpr (requires { part.check(check, s); }) {
      part.check(check, s);
    } else if constexpr (requires { part.check(check); }) {
      part.check(check);
    }
  }

 protected:
  // f(i, of) for every block i of a saved state; of(x) are the block's rows of x.
  template <class T, class ExecT, class F>
  void for_each_block(Saved<T, ExecT> const& saved, F const& f) const
  {
    for (std::size_t i = 0; i < saved.blocks.size(); ++i) {
      f(i, [&](auto const& x) { return rows_of_block(x, block, static_cast<index_t>(i)); });
    }
  }
};

// A gate (route/gate.hpp), but that backward_weights takes the gradients of each block.
template <class GateT>
struct GateInBlocks : PartInBlocks<GateT, GateLayout<typename GateT::Sizes>> {
  using Base                    = PartInBlocks<GateT, GateLayout<typename GateT::Sizes>>;
  using kind                    = gate_kind;
  static constexpr bool reads_x = gate_reads_x<GateT>();
  template <class T, class ExecT>
  using Params = typename Base::template Params<T, ExecT>;
  template <class T, class ExecT>
  using Saved = typename Base::template Saved<T, ExecT>;
  template <class T, class ExecT>
  using Carry = typename Base::template Carry<T, ExecT>;

  template <class ExecT, class T>
  void forward(ExecT const& exec,
               Params<T const, ExecT> const& params,
               View<StepState const, 1, ExecT> step,
               View<T const, 2, ExecT> x,
               Saved<T, ExecT>& saved,
               View<accumulator_t<T>, 2, ExecT> logits) const
  {
    this->for_each_block(saved, [&](std::size_t i, auto const& of) {
      this->part.forward(exec, params, step, of(x), saved.blocks[i], of(logits));
    });
  }
  template <class ExecT, class T>
  void backward_data(ExecT const& exec,
                     Params<T const, ExecT> const& params,
                     Saved<T, ExecT> const& saved,
                     View<StepState const, 1, ExecT> step,
                     View<T const, 2, ExecT> x,
                     View<accumulator_t<T> const, 2, ExecT> d_logits,
                     Carry<T, ExecT>& carry,
                     View<accumulator_t<T>, 2, ExecT> dx) const
  {
    this->for_each_block(saved, [&](std::size_t i, auto const& of) {
      this->part.backward_data(
          exec, params, saved.blocks[i], step, of(x), of(d_logits), carry.blocks[i], of(dx));
    });
  }
  // grads_of(b) += block b's
  template <class ExecT, class T, class GradsOf>
  void backward_weights(ExecT const& exec,
                        Params<T const, ExecT> const& params,
                        Saved<T, ExecT> const& saved,
                        View<StepState const, 1, ExecT> step,
                        View<T const, 2, ExecT> x,
                        View<accumulator_t<T> const, 2, ExecT> d_logits,
                        Carry<T, ExecT>& carry,
                        GradsOf const& grads_of) const
  {
    this->for_each_block(saved, [&](std::size_t i, auto const& of) {
      this->part.backward_weights(exec,
                                  params,
                                  saved.blocks[i],
                                  step,
                                  of(x),
                                  of(d_logits),
                                  carry.blocks[i],
                                  grads_of(static_cast<index_t>(i)));
    });
  }
};

// A shared expert (expert/shared_expert.hpp), likewise.
template <class SharedT>
struct SharedInBlocks : PartInBlocks<SharedT, ExpertLayout<typename SharedT::Sizes>> {
  using Base = PartInBlocks<SharedT, ExpertLayout<typename SharedT::Sizes>>;
  using kind = shared_kind;
  template <class T, class ExecT>
  using Params = typename Base::template Params<T, ExecT>;
  template <class T, class ExecT>
  using Saved = typename Base::template Saved<T, ExecT>;
  template <class T, class ExecT>
  using Carry = typename Base::template Carry<T, ExecT>;

  template <class ExecT, class T>
  void forward(ExecT const& exec,
               Params<T const, ExecT> const& params,
               View<T const, 2, ExecT> x,
               Saved<T, ExecT>& saved,
               View<accumulator_t<T>, 2, ExecT> addend) const
  {
    this->for_each_block(saved, [&](std::size_t i, auto const& of) {
      this->part.forward(exec, params, of(x), saved.blocks[i], of(addend));
    });
  }
  template <class ExecT, class T>
  void backward_data(ExecT const& exec,
                     Params<T const, ExecT> const& params,
                     Saved<T, ExecT> const& saved,
                     View<T const, 2, ExecT> x,
                     View<T const, 2, ExecT> dy,
                     Carry<T, ExecT>& carry,
                     View<accumulator_t<T>, 2, ExecT> dx) const
  {
    this->for_each_block(saved, [&](std::size_t i, auto const& of) {
      this->part.backward_data(
          exec, params, saved.blocks[i], of(x), of(dy), carry.blocks[i], of(dx));
    });
  }
  // grads_of(b) += block b's
  template <class ExecT, class T, class GradsOf>
  void backward_weights(ExecT const& exec,
                        Saved<T, ExecT> const& saved,
                        View<T const, 2, ExecT> x,
                        View<T const, 2, ExecT> dy,
                        Carry<T, ExecT>& carry,
                        GradsOf const& grads_of) const
  {
    this->for_each_block(saved, [&](std::size_t i, auto const& of) {
      this->part.backward_weights(
          exec, saved.blocks[i], of(x), of(dy), carry.blocks[i], grads_of(static_cast<index_t>(i)));
    });
  }
};

// What works in blocks, where the layer's reduction is by blocks.
template <class ReductionT, class GateT, class SharedT>
struct BesideExpertsOf {
  using Gate   = GateT;
  using Shared = SharedT;
  static constexpr Gate gate(GateT const& g, ReductionT const&) { return g; }
  static constexpr Shared shared(SharedT const& s, ReductionT const&) { return s; }
};
template <class GateT, class SharedT>
struct BesideExpertsOf<ReproducibleReduction, GateT, SharedT> {
  static constexpr bool has_shared = !std::is_same_v<SharedT, NoSharedExpert>;
  using Gate                       = GateInBlocks<GateT>;
  using Shared = std::conditional_t<has_shared, SharedInBlocks<SharedT>, NoSharedExpert>;
  static constexpr Gate gate(GateT const& g, ReproducibleReduction const& r)
  {
    return {{g, r.block}};
  }
  static constexpr Shared shared([[maybe_unused]] SharedT const& s,
                                 [[maybe_unused]] ReproducibleReduction const& r)
  {
    if constexpr (has_shared) {
      return {{s, r.block}};
    } else {
      return {};
    }
  }
};

// to (n) = or += from (n), some elements for a row of the launch
template <class S, class T>
struct StoreSumRow {
  S const* from;
  T* to;
  index_t n;
  bool add;
  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t part) const
  {
    using Sum           = std::conditional_t<std::is_same_v<T, double>, double, S>;
    index_t const begin = part * fold_columns;
    index_t const end   = begin + fold_columns < n ? begin + fold_columns : n;
    for (index_t i = begin + team.lane(); i < end; i += team.size()) {
      Sum const old = add ? static_cast<Sum>(to[i]) : Sum{0};
      to[i]         = static_cast<T>(old + static_cast<Sum>(from[i]));
    }
  }
};

// Backward's memory for the blocks' gradients of gate and shared expert.
template <class S, class ExecT>
struct BlockGrads {
  Tensor<S, 2, ExecT> partials;  // (B, n), n elements of all their parameters
  Tensor<S, 1, ExecT> total;     // (n)
  BlockSumWork<S, ExecT> work;
};

// What is summed: the blocks' gradients over all ranks; the gradients are that, or it is added.
template <class ExecT, class CommT, class S, class SumsT, class GradsT>
void store_block_grads(ExecT const& exec,
                       CommT const& comm,
                       BlockCounts counts,
                       BlockGrads<S, ExecT>& memory,
                       SumsT const& sums,  // the views of `total`
                       GradsT const& grads,
                       Result result)
{
  sum_blocks_over_ranks(
      exec, comm, counts, memory.partials.const_view(), memory.total.view(), memory.work);
  std::vector<S const*> from;
  sums.for_each(
      [&](char const*, auto const& view, auto const&) { from.push_back(view.data_handle()); });
  auto next = from.begin();
  grads.for_each([&](char const*, auto const& view, auto const&) {
    using T = typename std::decay_t<decltype(view)>::value_type;
    exec.for_each_row(
        token_blocks(view.size(), fold_columns),
        StoreSumRow<S, T>{*next++, view.data_handle(), view.size(), result == Result::add});
  });
}

}  // namespace moe::detail
