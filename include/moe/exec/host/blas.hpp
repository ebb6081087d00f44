#pragma once
// Dense products on Host by a CBLAS, where the program was configured with one and its Host says
// so.
#if defined(MOE_WITH_CBLAS)
#include <cblas.h>

#include <algorithm>
#include <concepts>
#include <limits>
#include <type_traits>

#include <moe/core/tensor.hpp>
#include <moe/exec/gemm.hpp>
#include <moe/exec/host.hpp>
#include <moe/expert/expert_rows.hpp>

namespace moe::detail {

// A BLAS multiplies float with float and double with double; anything else is our own product's.
template <class T, class... Ts>
inline constexpr bool blas_elements =
    (std::same_as<T, float> || std::same_as<T, double>) && (std::same_as<T, Ts> && ...);

inline bool blas_extents(auto... extents)
{
  return ((extents <= std::numeric_limits<int>::max()) && ...);
}

// c (m, n) = op(a) (m, k) . op(b) (k, n) + beta c; rows are stored without gaps.
template <class T>
void blas_product(Transpose ta,
                  T const* a,
                  Transpose tb,
                  T const* b,
                  index_t m,
                  index_t n,
                  index_t k,
                  T beta,
                  T* c)
{
  if (m == 0 || n == 0) { return; }
  auto const op     = [](Transpose t) { return t == Transpose::no ? CblasNoTrans : CblasTrans; };
  auto const size   = [](index_t i) { return static_cast<int>(i); };
  auto const stride = [](index_t i) { return i == 0 ? 1 : static_cast<int>(i); };
  int const lda = stride(ta == Transpose::no ? k : m), ldb = stride(tb == Transpose::no ? n : k);
  if constexpr (std::same_as<T, float>) {
    cblas_sgemm(CblasRowMajor,
                op(ta),
                op(tb),
                size(m),
                size(n),
                size(k),
                1,
                a,
                lda,
                b,
                ldb,
                beta,
                c,
                stride(n));
  } else {
    cblas_dgemm(CblasRowMajor,
                op(ta),
                op(tb),
                size(m),
                size(n),
                size(k),
                1,
                a,
                lda,
                b,
                ldb,
                beta,
                c,
                stride(n));
  }
}

template <class A, class B, class C>
bool blas_gemm(Host const& exec, Transpose ta, A a, Transpose tb, B b, Result result, C c)
{
  using T = typename C::value_type;
  if constexpr (blas_elements<T, typename A::value_type, typename B::value_type>) {
    index_t const k = a.extent(ta == Transpose::no ? 1 : 0);
    if (exec.products() != moe::Products::blas || !blas_extents(c.extent(0), c.extent(1), k)) {
      return false;
    }
    blas_product<T>(ta,
                    a.data_handle(),
                    tb,
                    b.data_handle(),
                    c.extent(0),
                    c.extent(1),
                    k,
                    T(result == Result::add),
                    c.data_handle());
    return true;
  } else {
    return false;
  }
}

// Rows [begin, begin + n) of `rows`, which a BLAS needs side by side: as they lie, or gathered.
template <class T>
T const* blas_rows(Host const& exec,
                   IndexedRows<T, Host> const& rows,
                   index_t begin,
                   index_t n,
                   Tensor<T, 2, Host>& gathered)
{
  if (rows.index.data_handle() == nullptr) {
    return rows.base.data_handle() + begin * rows.columns();
  }
  T* const to = gathered.view().data_handle();
  exec.for_each_row(n, [&](SerialTeam, index_t i) {
    T* const row        = to + i * rows.columns();
    T const* const from = rows.row(begin + i);
    if (from == nullptr) {
      std::fill_n(row, rows.columns(), T{});
    } else {
      std::copy_n(from, rows.columns(), row);
    }
  });
  return to;
}

// Room for it, where rows come through an index. Without memory for that there is no BLAS product:
// the library's own reads through the index.
template <class T>
bool make_gather_buffer(Host const& exec,
                        RowGroups<Host> const& groups,
                        IndexedRows<T, Host> const& rows,
                        Tensor<T, 2, Host>& buffer)
{
  if (rows.index.data_handle() == nullptr) { return true; }
  try {
    buffer = Tensor<T, 2, Host>(exec, groups.rows, rows.columns());
    return true;
  } catch (OutOfMemoryError const&) {
    return false;
  }
}

template <class A, class W, class Bias, class C>
bool blas_grouped_gemm_rows(Host const& exec,
                            RowGroups<Host> const& groups,
                            IndexedRows<A, Host> const& a,
                            Transpose tw,
                            W w,
                            Bias bias,
                            C c)
{
  using T = typename C::value_type;
  if constexpr (blas_elements<T, A, typename W::value_type, typename Bias::value_type>) {
    index_t const n = c.extent(1), k = a.columns();
    if (exec.products() != moe::Products::blas || !blas_extents(groups.rows, n, k)) {
      return false;
    }
    Tensor<T, 2, Host> gathered;
    if (!make_gather_buffer(exec, groups, a, gathered)) { return false; }
    for (index_t e = groups.first; e < groups.last; ++e) {
      index_t const begin = groups.begin(e), rows = groups.end(e) - begin;
      T* const out = c.data_handle() + begin * n;
      if (bias.data_handle() != nullptr) {
        exec.for_each_row(rows, [&](SerialTeam, index_t r) {
          std::copy_n(bias.data_handle() + e * n, n, out + r * n);
        });
      }
      blas_product<T>(Transpose::no,
                      blas_rows(exec, a, begin, rows, gathered),
                      tw,
                      w.data_handle() + e * n * k,
                      rows,
                      n,
                      k,
                      T(bias.data_handle() != nullptr),
                      out);
    }
    return true;
  } else {
    return false;
  }
}

template <class A, class B, class G>
bool blas_grouped_gemm_weights(Host const& exec,
                               RowGroups<Host> const& groups,
                               IndexedRows<A, Host> const& a,
                               IndexedRows<B, Host> const& b,
                               G dw,
                               Result result)
{
  using T = typename G::value_type;
  if constexpr (blas_elements<T, A, B>) {
    index_t const m = dw.extent(1), n = dw.extent(2);
    if (exec.products() != moe::Products::blas || !blas_extents(groups.rows, m, n)) {
      return false;
    }
    Tensor<T, 2, Host> gathered_a, gathered_b;
    if (!make_gather_buffer(exec, groups, a, gathered_a) ||
        !make_gather_buffer(exec, groups, b, gathered_b)) {
      return false;
    }
    for (index_t e = groups.first; e < groups.last; ++e) {
      index_t const begin = groups.begin(e), rows = groups.end(e) - begin;
      T* const to = dw.data_handle() + e * m * n;
      if (rows == 0) {
        if (result == Result::overwrite) { std::fill_n(to, m * n, T{}); }
        continue;
      }
      blas_product<T>(Transpose::yes,
                      blas_rows(exec, a, begin, rows, gathered_a),
                      Transpose::no,
                      blas_rows(exec, b, begin, rows, gathered_b),
                      m,
                      n,
                      rows,
                      T(result == Result::add),
                      to);
    }
    return true;
  } else {
    return false;
  }
}

}  // namespace moe::detail

#endif
