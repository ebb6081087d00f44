#pragma once
// --reproducible: gradients whose bits do not depend on how many ranks share a batch. What the
// model itself has gets a gradient of each sequence, added up in the order of the batch; the MoE
// layers have moe::ReproducibleReduction for theirs.
#include <vector>

#include "model_memory.hpp"
#include "ranks.hpp"

namespace train_lm {

template <class ExecT>
class GradientBlocks {
 public:
  using Params = ModelParams<float, ExecT>;

  GradientBlocks() = default;
  // Of `sequences` at this rank, of which none has more than `most`.
  GradientBlocks(ExecT const& exec, ModelSizes const& sizes, index_t sequences, index_t most)
      : sizes_{.hidden = sizes.hidden, .layers = sizes.layers, .moe = 0}, most_{most}
  {
    moe::Carver<float, ExecT> count;
    Params::carve(count, sizes_);
    partials_ = Tensor<float, 2, ExecT>(exec, sequences, count.used());
    total_    = Tensor<float, 1, ExecT>(exec, count.used());
  }

  // Zeros for the gradient of each sequence.
  [[nodiscard]] std::vector<Params> begin(ExecT const& exec)
  {
    exec.zero(partials_.view().data_handle(), partials_.bytes());
    std::vector<Params> all;
    for (index_t b = 0; b < partials_.extent(0); ++b) {
      all.push_back(carve(partials_.view().data_handle() + b * partials_.extent(1)));
    }
    return all;
  }
  // grads = their sum over all ranks.
  void sum(ExecT const& exec, Ranks<ExecT> const& ranks, Params const& grads)
  {
    ranks.sum_rows_in_order(exec, partials_.const_view(), most_, total_.view());
    std::vector<float const*> from;
    carve(total_.view().data_handle()).for_each([&](char const*, auto const& view, moe::Init) {
      from.push_back(view.data_handle());
    });
    std::size_t i = 0;
    grads.for_each([&](char const*, auto const& view, moe::Init) {
      exec.copy(
          view.data_handle(), from[i++], static_cast<std::size_t>(view.size()) * sizeof(float));
    });
  }

 private:
  [[nodiscard]] Params carve(float* at) const
  {
    moe::Carver<float, ExecT> carver(at);
    return Params::carve(carver, sizes_);
  }

  ModelSizes sizes_;
  index_t most_ = 0;
  Tensor<float, 2, ExecT> partials_;  // (B, n)
  Tensor<float, 1, ExecT> total_;     // (n)
};

}  // namespace train_lm
