#pragma once
// Contract of the dense products, which every space brings as primitives (Host: exec/host/gemm.hpp
// and grouped_gemm.hpp). Operands may differ in element type; sums are taken in float, or in double
// when an operand is double, over k in ascending order, and rounded once into the result. With the
// library's own products an element of the result depends on its row of a, its column of b and
// nothing else: not on the other rows, the number of threads or how many experts one call covers.
//
//   gemm(exec, ta, a, tb, b, result, c)           c (M, N) = or += op(a) (M, K) . op(b) (K, N)
//   grouped_gemm_rows(exec, groups, a, tw, w, bias, c)
//       for every row r of every expert e of groups:  c(r) (N) = a(r) (K) . w(e)^T + bias(e)
//       w is (L, N, K) with Transpose::yes, (L, K, N) with Transpose::no; bias (L, N) or empty
//   grouped_gemm_weights(exec, groups, a, b, dw, result)
//       for every expert e of groups:  dw(e) (M, N) = or += sum_{r of e} a(r) (M) b(r)^T (N)
//       `result` is Result::add unless given. An expert without rows is left as it is, or becomes
//       zeros. With the library's own products what overwrites has the bits of what is added to
//       zeros, so it is never -0 but where it is rounded to zero.
namespace moe {

enum class Transpose { no, yes };
enum class Result { overwrite, add };

}  // namespace moe
