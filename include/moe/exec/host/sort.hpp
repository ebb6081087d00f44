#pragma once
// Host primitives of the plan: a stable counting sort and a histogram.
#include <algorithm>
#include <concepts>

#include <moe/core/tensor.hpp>
#include <moe/exec/host.hpp>

namespace moe {
namespace detail {

inline constexpr int sort_digit_bits = 11;  // 2,048 counters stay in the first-level cache

inline index_t sort_parts(index_t n, int threads)
{
  return std::clamp<index_t>(n / 8192, 1, threads);
}
inline int sort_passes(int bits)
{
  return std::max(1, (bits + sort_digit_bits - 1) / sort_digit_bits);
}
// Of a pass: parts, digits.
inline Array<index_t, 2> sort_counters(index_t n, int bits, int threads)
{
  int const passes = sort_passes(bits);
  return {{sort_parts(n, threads), index_t{1} << (bits + passes - 1) / passes}};
}

// One counting pass over the digit [shift, shift + bits). Rows are cut into as many parts as there
// are threads; a counter per (digit, part) makes the pass stable whatever that number is.
template <std::unsigned_integral Key>
void counting_pass(Host const& exec,
                   index_t n,
                   Key const* key,
                   Id const* value,
                   int shift,
                   int bits,
                   Key* key_out,
                   Id* value_out,
                   View<index_t, 2, Host> counter)  // (parts, digits)
{
  index_t const parts  = counter.extent(0);
  index_t const digits = index_t{1} << bits;
  Key const mask       = static_cast<Key>(digits - 1);
  auto const digit     = [=](index_t i) {
    return static_cast<index_t>(static_cast<Key>(key[i] >> shift) & mask);
  };
  exec.for_each_task(parts, [=](int, index_t p) {
    index_t* const count = &counter(p, 0);
    std::fill_n(count, digits, index_t{0});
    for (index_t i = n * p / parts, end = n * (p + 1) / parts; i < end; ++i) {
      ++count[digit(i)];
    }
  });
  index_t next = 0;
  for (index_t d = 0; d < digits; ++d) {
    for (index_t p = 0; p < parts; ++p) {
      index_t const here = counter(p, d);
      counter(p, d)      = next;
      next += here;
    }
  }
  exec.for_each_task(parts, [=](int, index_t p) {
    index_t* const next_of = &counter(p, 0);
    for (index_t i = n * p / parts, end = n * (p + 1) / parts; i < end; ++i) {
      index_t const to = next_of[digit(i)]++;
      key_out[to]      = key[i];
      value_out[to]    = value[i];
    }
  });
}

}  // namespace detail

// Stable ascending sort of (key, value) by the low `bits` bits of the keys; the inputs are used as
// scratch and hold nothing afterwards. One pass sorts by up to 2,048 experts.
template <std::unsigned_integral Key>
void sort_pairs(Host const& exec,
                int bits,
                View<Key, 1, Host> key,
                View<Id, 1, Host> value,
                View<Key, 1, Host> key_out,
                View<Id, 1, Host> value_out)
{
  index_t const n = key.extent(0);
  if (n == 0) { return; }
  int const passes    = detail::sort_passes(bits);
  int const each      = (bits + passes - 1) / passes;
  auto const counters = detail::sort_counters(n, bits, exec.threads());
  Tensor<index_t, 2, Host> counter(exec, counters[0], counters[1]);
  Key *from = key.data_handle(), *to = key_out.data_handle();
  Id *from_value = value.data_handle(), *to_value = value_out.data_handle();
  for (int pass = 0; pass < passes; ++pass) {
    int const shift = pass * each;
    int const width = std::min(each, bits - shift);
    detail::counting_pass(exec, n, from, from_value, shift, width, to, to_value, counter.view());
    std::swap(from, to);
    std::swap(from_value, to_value);
  }
  if (passes % 2 == 0) {
    exec.copy(key_out.data_handle(), from, static_cast<std::size_t>(n) * sizeof(Key));
    exec.copy(value_out.data_handle(), from_value, static_cast<std::size_t>(n) * sizeof(Id));
  }
}

// count(b) = how many keys equal b, for b in [0, bins); other keys are not counted. Whole numbers,
// so the order of counting does not show.
inline void histogram(Host const& exec, View<Id const, 1, Host> key, View<Id, 1, Host> count)
{
  index_t const n     = key.extent(0);
  index_t const bins  = count.extent(0);
  index_t const parts = detail::sort_parts(n, exec.threads());
  Tensor<Id, 2, Host> part_count(exec, parts, bins);
  auto const partial = part_count.view();
  exec.for_each_task(parts, [&](int, index_t p) {
    for (index_t b = 0; b < bins; ++b) {
      partial(p, b) = 0;
    }
    for (index_t i = n * p / parts, end = n * (p + 1) / parts; i < end; ++i) {
      if (key(i) >= 0 && key(i) < bins) { ++partial(p, key(i)); }
    }
  });
  for (index_t b = 0; b < bins; ++b) {
    Id sum = 0;
    for (index_t p = 0; p < parts; ++p) {
      sum += partial(p, b);
    }
    count(b) = sum;
  }
}

}  // namespace moe
