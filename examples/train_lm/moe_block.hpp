#pragma once
// A MoE layer as the model sees it, whatever its policies: compositions are types, and which one
// runs is known at run time, so there is one virtual call per layer and pass.
#include <memory>

#include <moe/route/load_statistics.hpp>

#include "options.hpp"
#include "pieces.hpp"

namespace train_lm {

using moe::index_t;
using moe::View;

struct BlockShape {
  index_t hidden = 0, experts = 0, ffn = 0, shared_ffn = 0;
  index_t sequences = 0, context = 0;  // of a training step, at this rank
  index_t first_token = 0;             // of a training step's batch, which all ranks share
  index_t number      = 0;             // which block of the model it is
  std::uint64_t seed  = 0;
};

// What a training step left behind.
struct BlockReport {
  moe::LoadStatistics load;
  double loss = 0;  // the balancing losses' part of the objective
};

// Parameters and gradients are pieces of the model's one allocation.
template <class ExecT>
class MoeBlock {
 public:
  using Values    = View<float const, 1, ExecT>;
  using Gradients = View<float, 1, ExecT>;
  using Rows      = View<float const, 2, ExecT>;  // (T, D)
  using RowsOut   = View<float, 2, ExecT>;

  virtual ~MoeBlock() = default;

  // Of the parameters at this rank.
  [[nodiscard]] virtual Pieces pieces() const                                        = 0;
  virtual void initialize(ExecT const& exec, View<float, 1, ExecT> parameters) const = 0;

  // Which step comes next, and how far the run is, in [0, 1].
  virtual void begin_step(ExecT const& exec, index_t step, double progress)     = 0;
  virtual void forward(ExecT const& exec, Values parameters, Rows x, RowsOut y) = 0;
  virtual void backward(ExecT const& exec,
                        Values parameters,
                        Rows x,
                        Rows dy,
                        Gradients gradients,  // =, whatever they held
                        RowsOut dx)                                             = 0;
  // What all ranks have: gradients = their sum over ranks. The experts' are complete.
  virtual void all_reduce_gradients(ExecT const& exec, Gradients gradients) const = 0;
  // After each step: what balances without a loss.
  virtual void end_step(ExecT const& exec) = 0;

  // Any number of tokens in `sequences` sequences.
  virtual void evaluate(
      ExecT const& exec, Values parameters, index_t sequences, Rows x, RowsOut y) const = 0;
  // Makes the routed experts answer zero.
  virtual void silence(ExecT const& exec, View<float, 1, ExecT> parameters) const = 0;

  [[nodiscard]] virtual BlockReport report(ExecT const& exec) const = 0;
  // What lasts from step to step beside the parameters; (E) or empty.
  [[nodiscard]] virtual View<float, 1, ExecT> selection_bias() = 0;
};

template <class ExecT>
using MoeBlockPtr = std::unique_ptr<MoeBlock<ExecT>>;

// The composition that `policies` names.
template <class ExecT>
[[nodiscard]] MoeBlockPtr<ExecT> make_moe_block(ExecT const& exec,
                                                Policies const& policies,
                                                BlockShape const& shape);

// Its parts, one file each, so that they compile side by side: null for the default of their kind.
template <class ExecT>
[[nodiscard]] MoeBlockPtr<ExecT> make_gate_block(ExecT const&, Policies const&, BlockShape const&);
template <class ExecT>
[[nodiscard]] MoeBlockPtr<ExecT> make_router_block(ExecT const&,
                                                   Policies const&,
                                                   BlockShape const&);
template <class ExecT>
[[nodiscard]] MoeBlockPtr<ExecT> make_dispatch_block(ExecT const&,
                                                     Policies const&,
                                                     BlockShape const&);
template <class ExecT>
[[nodiscard]] MoeBlockPtr<ExecT> make_expert_block(ExecT const&,
                                                   Policies const&,
                                                   BlockShape const&);

}  // namespace train_lm
