#pragma once
// The ranks that share a run, whatever they are: threads or processes (ranks_over.hpp), or one
// alone. A rank's sequences are a block of each batch, in the order of ranks.
#include <moe/exec/gemm.hpp>

#include "moe_block.hpp"

namespace train_lm {

// Items [first, first + count) of a batch.
struct Part {
  index_t first = 0, count = 0;
};

// Every function but rank and size is called by all ranks, in the same order.
template <class ExecT>
class Ranks {
 public:
  virtual ~Ranks() = default;

  [[nodiscard]] virtual int rank() const = 0;
  [[nodiscard]] virtual int size() const = 0;
  [[nodiscard]] Part part_of(index_t batch) const
  {
    index_t const first = batch * rank() / size();
    return {first, batch * (rank() + 1) / size() - first};
  }

  // x = sum over ranks of x; all get the same bits. Where all ranks but one have zeros it is exact.
  virtual void sum(ExecT const& exec, View<float, 1, ExecT> x) const  = 0;
  virtual void sum(ExecT const& exec, View<double, 1, ExecT> x) const = 0;
  // total (n) = the rows of all ranks' partials (B, n), added one after the other in the order of
  // ranks: the same bits however many ranks share the rows. No rank has more than `most`.
  virtual void sum_rows_in_order(ExecT const& exec,
                                 View<float const, 2, ExecT> partials,
                                 index_t most,
                                 View<float, 1, ExecT> total) const = 0;
  // Until what was enqueued is done. Before the host waits for results of the above: a wait for the
  // device alone would not end when another rank has died.
  virtual void wait(ExecT const& exec) const = 0;

  // A block whose experts are spread over the ranks.
  [[nodiscard]] virtual MoeBlockPtr<ExecT> make_block(ExecT const& exec,
                                                      Policies const& policies,
                                                      BlockShape const& shape) const = 0;
};

template <class ExecT>
class OneRank final : public Ranks<ExecT> {
 public:
  [[nodiscard]] int rank() const override { return 0; }
  [[nodiscard]] int size() const override { return 1; }
  void sum(ExecT const&, View<float, 1, ExecT>) const override {}
  void sum(ExecT const&, View<double, 1, ExecT>) const override {}
  void sum_rows_in_order(ExecT const& exec,
                         View<float const, 2, ExecT> partials,
                         index_t,
                         View<float, 1, ExecT> total) const override
  {
    sum_rows(exec, partials, moe::Result::overwrite, total);
  }
  void wait(ExecT const&) const override {}
  [[nodiscard]] MoeBlockPtr<ExecT> make_block(ExecT const& exec,
                                              Policies const& policies,
                                              BlockShape const& shape) const override
  {
    return make_moe_block(exec, policies, shape);
  }
};

}  // namespace train_lm
