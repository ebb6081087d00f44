#pragma once
// What tests of gates and experts share: parameters as plain lists of numbers in double, to and
// from any element type.
#include <moe/core/element.hpp>
#include <moe/core/tensor.hpp>

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>

namespace moe::test {

using Numbers = std::vector<double>;
using Values  = std::vector<Numbers>;  // of each view of a struct of parameters, in order

template <class T>
T to_element(double value)
{
  if constexpr (std::is_floating_point_v<T>) {
    return static_cast<T>(value);
  } else {
    return T(static_cast<float>(value));
  }
}

template <class T>
Numbers rounded_to(Numbers v)
{
  for (double& x : v) {
    x = static_cast<double>(to_element<T>(x));
  }
  return v;
}
template <class T>
Values rounded_to(Values v)
{
  for (auto& numbers : v) {
    numbers = rounded_to<T>(numbers);
  }
  return v;
}

template <class T>
std::vector<T> elements_of(Numbers const& v)
{
  std::vector<T> out;
  for (double const x : v) {
    out.push_back(to_element<T>(x));
  }
  return out;
}
template <class T>
Numbers numbers_of(T const* data, index_t n)
{
  Numbers out;
  for (index_t i = 0; i < n; ++i) {
    out.push_back(static_cast<double>(data[i]));
  }
  return out;
}
template <class V>
Numbers numbers_of(V const& view)
{
  return numbers_of(view.data_handle(), view.size());
}

// Of host memory.
template <class ParamsT>
Values values_of(ParamsT const& params)
{
  Values out;
  params.for_each(
      [&](char const*, auto const& view, auto const&) { out.push_back(numbers_of(view)); });
  return out;
}
template <class ParamsT>
void set_values(ParamsT const& params, Values const& values)
{
  std::size_t n = 0;
  params.for_each([&]<class V>(char const*, V const& view, auto const&) {
    auto const& from = values.at(n++);
    for (index_t i = 0; i < view.size(); ++i) {
      view.data_handle()[i] =
          to_element<typename V::value_type>(from.at(static_cast<std::size_t>(i)));
    }
  });
}
template <class ParamsT>
void fill_values(ParamsT const& params, double value)
{
  params.for_each([&]<class V>(char const*, V const& view, auto const&) {
    std::fill_n(view.data_handle(), view.size(), to_element<typename V::value_type>(value));
  });
}

inline Numbers minus(Numbers a, double b)
{
  for (double& x : a) {
    x -= b;
  }
  return a;
}

inline double largest_of(Numbers const& v)
{
  double largest = 0;
  for (double const x : v) {
    largest = std::max(largest, std::abs(x));
  }
  return largest;
}

// How far a is from b at worst, less `relative` times the element, in parts of the largest of b.
inline double distance(Numbers const& a, Numbers const& b, double relative = 0)
{
  if (a.size() != b.size()) { return INFINITY; }
  double worst = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    double const off = std::abs(a[i] - b[i]) - relative * std::abs(b[i]);
    if (!(off <= worst)) { worst = std::isnan(off) ? INFINITY : off; }
  }
  double const largest = largest_of(b);
  return largest > 0 ? worst / largest : worst;
}

}  // namespace moe::test
