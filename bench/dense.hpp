#pragma once
// What a layer is compared with: one dense product of as many floating-point operations as its
// experts' products, x (A, D) . w (D, 3 F), by a CBLAS on as many threads.
#include <algorithm>
#include <vector>

#include "data.hpp"
#include "shapes.hpp"
#include "space.hpp"
#include "timer.hpp"

#if defined(MOE_BENCH_WITH_CBLAS)
#include <cblas.h>

// OpenBLAS has it; another CBLAS is told by its own environment variable.
extern "C" __attribute__((weak)) void openblas_set_num_threads(int);
#endif

namespace moe_bench {

#if defined(MOE_BENCH_WITH_CBLAS)
inline constexpr bool has_dense = true;
#else
inline constexpr bool has_dense = false;
#endif

inline double median(std::vector<double> values)
{
  if (values.empty()) { return 0; }
  auto const middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

class DenseProduct {
 public:
  DenseProduct(index_t rows, index_t columns, index_t depth) : m_{rows}, n_{columns}, k_{depth}
  {
#if defined(MOE_BENCH_WITH_CBLAS)
    if (openblas_set_num_threads != nullptr) { openblas_set_num_threads(threads); }
    a_ = uniform_tensor<float>(space_.exec(), m_, k_, 1);
    b_ = uniform_tensor<float>(space_.exec(), k_, n_, 2);
    c_ = uniform_tensor<float>(space_.exec(), m_, n_, 3);
#endif
  }
  [[nodiscard]] double flops() const
  {
    return 2. * static_cast<double>(m_) * static_cast<double>(n_) * static_cast<double>(k_);
  }
  void run()
  {
#if defined(MOE_BENCH_WITH_CBLAS)
    auto const size = [](index_t i) { return static_cast<int>(i); };
    cblas_sgemm(CblasRowMajor,
                CblasNoTrans,
                CblasNoTrans,
                size(m_),
                size(n_),
                size(k_),
                1,
                a_.view().data_handle(),
                size(k_),
                b_.view().data_handle(),
                size(n_),
                0,
                c_.view().data_handle(),
                size(n_));
#endif
  }
  [[nodiscard]] double seconds()
  {
    auto const start = now(space_.exec());
    run();
    return moe_bench::seconds(start, now(space_.exec()));
  }

 private:
  Space<moe::Host> space_{moe::Products::own};
  index_t m_, n_, k_;
  moe::Tensor<float, 2, moe::Host> a_, b_, c_;
};

// The products of a layer's forward pass, when nothing is dropped.
inline DenseProduct dense_product(Shape const& s)
{
  return {s.tokens * s.top_k, 3 * s.ffn, s.hidden};
}

}  // namespace moe_bench
