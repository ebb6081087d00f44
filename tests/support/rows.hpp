#pragma once
// Rows of any element type made from doubles, and compared.
#include <concepts>
#include <cstring>
#include <random>
#include <vector>

#include <moe/core/element.hpp>
#include <moe/core/tensor.hpp>

#include "support/space.hpp"

namespace moe::test {

template <class T, class ExecT>
Tensor<T, 2, ExecT> tensor_of(ExecT const& exec,
                              index_t rows,
                              index_t columns,
                              std::vector<double> const& values)
{
  std::vector<T> converted;
  for (double const v : values) {
    converted.push_back(static_cast<T>(static_cast<accumulator_t<T>>(v)));
  }
  Tensor<T, 2, ExecT> t(exec, rows, columns);
  exec.copy_from_host(t.view().data_handle(), converted.data(), t.bytes());
  return t;
}

inline std::vector<double> random_values(std::mt19937& rng, index_t n)
{
  std::uniform_real_distribution<double> uniform(-1, 1);
  std::vector<double> values(static_cast<std::size_t>(n));
  for (auto& v : values) {
    v = uniform(rng);
  }
  return values;
}

template <class T, class ExecT>
std::vector<T> elements_of(ExecT const& exec, Tensor<T, 2, ExecT> const& t)
{
  return get(exec, t.const_view());
}

template <class T>
bool same_bits(std::vector<T> const& a, std::vector<T> const& b)
{
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

// Half a unit in the last place, relative.
template <class T>
constexpr double rounding()
{
  if (std::same_as<T, double>) { return 0x1p-53; }
  if (std::same_as<T, float>) { return 0x1p-24; }
  return std::same_as<T, Half> ? 0x1p-11 : 0x1p-8;
}

}  // namespace moe::test
