#pragma once
// AdamW (Loshchilov & Hutter 2019) with the gradient's norm clipped, on all parameters of a rank as
// one vector. The norm stays in the space's memory, so a step needs no word from the host.
#include <algorithm>
#include <cmath>
#include <vector>

#include <moe/core/team.hpp>
#include <moe/core/tensor.hpp>

#include "ranks.hpp"

namespace train_lm {

using moe::index_t;
using moe::Team;
using moe::Tensor;
using moe::View;

struct AdamWOptions {
  double learning_rate = 3e-3;
  double beta1         = 0.9;
  double beta2         = 0.99;  // short runs: the second moment is there after some 100 steps
  double epsilon       = 1e-8;
  double weight_decay  = 0.05;
  double clip          = 1;  // largest norm of the gradient
};

inline constexpr index_t adamw_block = 4096;  // elements of one row of work

// Elements [from, to) of a rank's gradient, whose sum of squares is a number of the whole norm's.
struct NormBlock {
  index_t from = 0, to = 0, number = 0;
};

// Sum of squares of one block, in double.
template <class ExecT>
struct SquaresRow {
  View<float const, 1, ExecT> g;
  View<NormBlock const, 1, ExecT> blocks;
  View<double, 1, ExecT> squares;  // of all ranks' blocks

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t b) const
  {
    NormBlock const block = blocks(b);
    double sum            = 0;
    for (index_t i = block.from + team.lane(); i < block.to; i += team.size()) {
      sum += static_cast<double>(g(i)) * static_cast<double>(g(i));
    }
    sum = team.sum(sum);
    if (team.lane() == 0) { squares(block.number) = sum; }
  }
};

// factor (1) = min(1, clip / |g|)
template <class ExecT>
struct ClipFactorRow {
  View<double const, 1, ExecT> squares;
  double clip;
  View<float, 1, ExecT> factor;

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t) const
  {
    double sum = 0;
    for (index_t b = team.lane(); b < squares.extent(0); b += team.size()) {
      sum += squares(b);
    }
    double const norm = std::sqrt(team.sum(sum));
    if (team.lane() == 0) { factor(0) = static_cast<float>(norm > clip ? clip / norm : 1.0); }
  }
};

// m = b1 m + (1 - b1) g,  v = b2 v + (1 - b2) g^2
// w -= rate (m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + epsilon) + decay w)
template <class ExecT>
struct AdamWRow {
  View<float, 1, ExecT> w, m, v;
  View<float, 1, ExecT> g;  // zeroed afterwards, since gradients are summed up
  View<float const, 1, ExecT> clip_factor;
  float beta1, beta2, epsilon;
  float rate, shrink;     // rate / (1 - b1^t); 1 - rate decay
  float inverse_v_scale;  // 1 / (1 - b2^t)

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t b) const
  {
    index_t const from = b * adamw_block;
    index_t const to   = from + adamw_block < w.extent(0) ? from + adamw_block : w.extent(0);
    float const factor = clip_factor(0);
    for (index_t i = from + team.lane(); i < to; i += team.size()) {
      float const d = factor * g(i);
      float const a = beta1 * m(i) + (1 - beta1) * d;
      float const s = beta2 * v(i) + (1 - beta2) * d * d;
      m(i)          = a;
      v(i)          = s;
      w(i)          = shrink * w(i) - rate * a / (std::sqrt(s * inverse_v_scale) + epsilon);
      g(i)          = 0;
    }
  }
};

// The moments of a rank's parameters, and the step made with them. The norm is that of all ranks'
// parameters, each counted once; its terms do not depend on how many ranks share them.
template <class ExecT>
class AdamW {
 public:
  // `ranks` must outlive it.
  AdamW(ExecT const& exec,
        Ranks<ExecT> const& ranks,
        Pieces const& pieces,
        AdamWOptions const& options)
      : ranks_{ranks},
        options_{options},
        m_(exec, pieces.here),
        v_(exec, pieces.here),
        clip_factor_(exec, 1)
  {
    std::vector<NormBlock> mine;
    index_t number = 0;
    for (Piece const& p : pieces.list) {
      for (index_t at = 0; at < p.count; at += adamw_block, ++number) {
        if (!p.counts_at(ranks.rank())) { continue; }
        mine.push_back({p.here + at, p.here + std::min(at + adamw_block, p.count), number});
      }
    }
    squares_     = Tensor<double, 1, ExecT>(exec, number);
    norm_blocks_ = Tensor<NormBlock, 1, ExecT>(exec, static_cast<index_t>(mine.size()));
    exec.copy_from_host(norm_blocks_.view().data_handle(), mine.data(), norm_blocks_.bytes());
    exec.zero(m_.view().data_handle(), m_.bytes());
    exec.zero(v_.view().data_handle(), v_.bytes());
  }

  // The t-th step (t = 1, 2, ...) at `scale` times the learning rate; zeroes g. By all ranks.
  void step(
      ExecT const& exec, index_t t, double scale, View<float, 1, ExecT> w, View<float, 1, ExecT> g)
  {
    auto const& o     = options_;
    index_t const n   = blocks(w.extent(0));
    double const rate = o.learning_rate * scale;
    exec.zero(squares_.view().data_handle(), squares_.bytes());
    exec.for_each_row(norm_blocks_.extent(0),
                      SquaresRow<ExecT>{g, norm_blocks_.const_view(), squares_.view()});
    ranks_.sum(exec, squares_.view());
    exec.for_each_row(1, ClipFactorRow<ExecT>{squares_.const_view(), o.clip, clip_factor_.view()});
    exec.for_each_row(n,
                      AdamWRow<ExecT>{
                          .w               = w,
                          .m               = m_.view(),
                          .v               = v_.view(),
                          .g               = g,
                          .clip_factor     = clip_factor_.const_view(),
                          .beta1           = static_cast<float>(o.beta1),
                          .beta2           = static_cast<float>(o.beta2),
                          .epsilon         = static_cast<float>(o.epsilon),
                          .rate            = static_cast<float>(rate / (1 - std::pow(o.beta1, t))),
                          .shrink          = static_cast<float>(1 - rate * o.weight_decay),
                          .inverse_v_scale = static_cast<float>(1 / (1 - std::pow(o.beta2, t))),
                      });
  }

  [[nodiscard]] View<float, 1, ExecT> m() { return m_.view(); }
  [[nodiscard]] View<float, 1, ExecT> v() { return v_.view(); }

 private:
  static index_t blocks(index_t parameters) { return (parameters + adamw_block - 1) / adamw_block; }

  Ranks<ExecT> const& ranks_;
  AdamWOptions options_;
  Tensor<float, 1, ExecT> m_, v_;            // (parameters)
  Tensor<NormBlock, 1, ExecT> norm_blocks_;  // that this rank counts
  Tensor<double, 1, ExecT> squares_;
  Tensor<float, 1, ExecT> clip_factor_;
};

}  // namespace train_lm
