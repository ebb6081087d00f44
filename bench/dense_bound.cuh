#pragma once
// What a layer on Cuda is compared with, as in peers/bench_peers.py: cuBLAS on one dense problem of
// A = T K rows with the same FLOPs; no routing, no activation, no gather. Not a layer, but the
// ceiling that its products could reach.
#include <algorithm>

#include "data.hpp"
#include "event.cuh"
#include "shapes.hpp"
#include "space.hpp"

namespace moe_bench {

// Median seconds of one pass: one to warm up, one to see how many fit into 0.7 s, then 4 to 25
// queued back to back, each between two events.
template <class Pass>
[[nodiscard]] double median_seconds(Cuda const& exec, Pass const& pass)
{
  pass();
  exec.synchronize();
  double const once = std::max(seconds_of(exec, 1, pass).front(), 1e-6);
  return median(seconds_of(exec, static_cast<int>(std::clamp(0.7 / once, 4., 25.)), pass));
}

template <class T>
class DenseBound {
 public:
  explicit DenseBound(Shape const& s)
      : a_{random(s.tokens * s.top_k, s.hidden, 1)},
        h_{random(s.tokens * s.top_k, s.ffn, 2)},
        dz_{random(s.tokens * s.top_k, 2 * s.ffn, 3)},
        w_in_{random(2 * s.ffn, s.hidden, 4)},
        w_out_{random(s.hidden, s.ffn, 5)},
        z_{random(s.tokens * s.top_k, 2 * s.ffn, 6)},
        y_{random(s.tokens * s.top_k, s.hidden, 7)},
        da_{random(s.tokens * s.top_k, s.ffn, 8)},
        dw_in_{random(2 * s.ffn, s.hidden, 9)},
        dw_out_{random(s.hidden, s.ffn, 10)}
  {
  }
  [[nodiscard]] Cuda const& exec() const { return space_.exec(); }

  void forward()
  {
    product(no, a_, yes, w_in_, z_);
    product(no, h_, yes, w_out_, y_);
  }
  void backward()
  {
    product(no, a_, no, w_out_, da_);
    product(yes, a_, no, h_, dw_out_);
    product(no, dz_, no, w_in_, y_);
    product(yes, dz_, no, a_, dw_in_);
  }

 private:
  using Matrix                       = moe::Tensor<T, 2, Cuda>;
  static constexpr moe::Transpose no = moe::Transpose::no, yes = moe::Transpose::yes;

  [[nodiscard]] Matrix random(index_t rows, index_t columns, std::uint32_t seed) const
  {
    return uniform_tensor<T>(exec(), rows, columns, seed);
  }
  void product(
      moe::Transpose ta, Matrix const& a, moe::Transpose tb, Matrix const& b, Matrix& c) const
  {
    moe::gemm(exec(), ta, a.view(), tb, b.view(), moe::Result::overwrite, c.view());
  }

  Space<Cuda> space_{moe::Products::blas};
  Matrix a_, h_, dz_;    // (A, D), (A, F), (A, 2F)
  Matrix w_in_, w_out_;  // (2F, D), (D, F)
  Matrix z_, y_, da_;    // (A, 2F), (A, D), (A, F)
  Matrix dw_in_, dw_out_;
};

}  // namespace moe_bench
