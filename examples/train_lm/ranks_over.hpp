#pragma once
// Ranks with a communicator of the library's between them: expert-parallel layers, and sums of what
// all ranks have.
#include <moe/dispatch/all_to_all_dispatcher.hpp>

#include "layer_block.hpp"
#include "ranks.hpp"

namespace train_lm {

template <class ExecT, class CommT>
class RanksOver final : public Ranks<ExecT> {
 public:
  explicit RanksOver(CommT comm) : comm_{std::move(comm)} {}

  [[nodiscard]] int rank() const override { return comm_.rank(); }
  [[nodiscard]] int size() const override { return comm_.size(); }
  void sum(ExecT const& exec, View<float, 1, ExecT> x) const override { add_up(exec, x); }
  void sum(ExecT const& exec, View<double, 1, ExecT> x) const override { add_up(exec, x); }
  void wait(ExecT const& exec) const override
  {
    if constexpr (requires { comm_.wait(exec); }) { comm_.wait(exec); }  // NCCL's
  }

  // The default policies, but for the dispatcher.
  [[nodiscard]] MoeBlockPtr<ExecT> make_block(ExecT const& exec,
                                              Policies const&,
                                              BlockShape const& shape) const override
  {
    return compose(exec,
                   shape,
                   DefaultRouter{},
                   moe::Dropless{},
                   moe::AllToAllDispatcher{comm_},
                   DefaultExpert{},
                   {},
                   balance_loss,
                   z_loss);
  }

 private:
  template <class T>
  void add_up(ExecT const& exec, View<T, 1, ExecT> x) const
  {
    if (!x.empty()) { comm_.all_reduce_sum(exec, x); }
  }

  CommT comm_;
};

}  // namespace train_lm
