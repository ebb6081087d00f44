#pragma once
// Ranks with a communicator of the library's between them: expert-parallel layers, and sums of what
// all ranks have.
#include <moe/comm/sum_blocks.hpp>
#include <moe/dispatch/all_to_all_dispatcher.hpp>

#include "layer_block.hpp"
#include "ranks.hpp"

namespace train_lm {

template <class ExecT, class CommT>
class RanksOver final : public Ranks<ExecT> {
 public:
  explicit RanksOver(CommT comm, bool reproducible = false)
      : comm_{std::move(comm)}, reproducible_{reproducible}
  {
  }

  [[nodiscard]] int rank() const override { return comm_.rank(); }
  [[nodiscard]] int size() const override { return comm_.size(); }
  void sum(ExecT const& exec, View<float, 1, ExecT> x) const override { add_up(exec, x); }
  void sum(ExecT const& exec, View<double, 1, ExecT> x) const override { add_up(exec, x); }
  void sum_rows_in_order(ExecT const& exec,
                         View<float const, 2, ExecT> partials,
                         index_t most,
                         View<float, 1, ExecT> total) const override
  {
    moe::sum_blocks_over_ranks(exec, comm_, {partials.extent(0), most}, partials, total);
  }
  void wait(ExecT const& exec) const override
  {
    if constexpr (requires { comm_.wait(exec); }) { comm_.wait(exec); }  // NCCL's
  }

  // The default policies, but for the dispatcher.
  [[nodiscard]] MoeBlockPtr<ExecT> make_block(ExecT const& exec,
                                              Policies const&,
                                              BlockShape const& shape) const override
  {
    if (!reproducible_) { return make(exec, shape, balance_loss, z_loss); }
    moe::ReproducibleReduction const in_order{.block = shape.context};  // a sequence's tokens
    return make(exec, shape, balance_loss, z_loss, in_order);
  }

 private:
  template <class... ExtraTs>
  MoeBlockPtr<ExecT> make(ExecT const& exec, BlockShape const& shape, ExtraTs... extras) const
  {
    moe::AllToAllDispatcher const dispatcher{comm_};
    return compose(
        exec, shape, DefaultRouter{}, moe::Dropless{}, dispatcher, DefaultExpert{}, {}, extras...);
  }
  template <class T>
  void add_up(ExecT const& exec, View<T, 1, ExecT> x) const
  {
    if (!x.empty()) { comm_.all_reduce_sum(exec, x); }
  }

  CommT comm_;
  bool reproducible_;
};

}  // namespace train_lm
