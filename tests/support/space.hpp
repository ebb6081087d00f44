#pragma once
// Numbers into a space and back, so that one test body runs on every space.
#include <random>
#include <vector>

#include <moe/core/element.hpp>
#include <moe/core/tensor.hpp>

namespace moe::test {

template <class T>
T element(double value)
{
  if constexpr (std::is_floating_point_v<T>) {
    return static_cast<T>(value);
  } else {
    return T(static_cast<float>(value));
  }
}
template <class T>
double number(T value)
{
  if constexpr (std::is_floating_point_v<T>) {
    return static_cast<double>(value);
  } else {
    return static_cast<double>(static_cast<float>(value));
  }
}

// Normal numbers, the same for every element type up to its rounding.
inline std::vector<double> normal_numbers(index_t n, unsigned seed, double scale = 1)
{
  std::mt19937 random(seed + 1);
  std::normal_distribution<double> normal(0, scale);
  std::vector<double> values(static_cast<std::size_t>(n));
  for (auto& v : values) {
    v = normal(random);
  }
  return values;
}

template <class T, class ExecT, class V, class... Extents>
Tensor<T, static_cast<int>(sizeof...(Extents)), ExecT> put(ExecT const& exec,
                                                           std::vector<V> const& values,
                                                           Extents... extents)
{
  Tensor<T, static_cast<int>(sizeof...(Extents)), ExecT> to(exec, extents...);
  std::vector<T> elements;
  elements.reserve(values.size());
  for (V const v : values) {
    if constexpr (std::is_integral_v<T>) {
      elements.push_back(static_cast<T>(v));
    } else {
      elements.push_back(element<T>(static_cast<double>(v)));
    }
  }
  exec.copy_from_host(to.view().data_handle(), elements.data(), elements.size() * sizeof(T));
  return to;
}

// The elements as they are.
template <class T, int Rank, class ExecT>
std::vector<std::remove_const_t<T>> get(ExecT const& exec, View<T, Rank, ExecT> from)
{
  std::vector<std::remove_const_t<T>> to(static_cast<std::size_t>(from.size()));
  exec.copy_to_host(to.data(), from.data_handle(), to.size() * sizeof(T));
  return to;
}
// As doubles.
template <class T, int Rank, class ExecT>
std::vector<double> get_numbers(ExecT const& exec, View<T, Rank, ExecT> from)
{
  std::vector<double> to;
  for (auto const v : get(exec, from)) {
    to.push_back(number(v));
  }
  return to;
}

// |a - b| / |b| in the Frobenius norm; NaN if either holds one.
inline double relative_error(std::vector<double> const& a, std::vector<double> const& b)
{
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  return a.size() != b.size() ? INFINITY : difference == 0 ? 0 : std::sqrt(difference / norm);
}

}  // namespace moe::test
