#include <moe/exec/host/sort.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <random>
#include <vector>

#include "support/plan_cases.hpp"

using moe::Host, moe::Id, moe::index_t, moe::Tensor;

namespace {

struct Spaces {
  Host threads[3] = {Host{{.threads = 1}}, Host{{.threads = 2}}, Host{{.threads = 3}}};
};

enum class Keys { random, few, equal, ascending, descending };

template <class Key>
std::vector<Key> make_keys(std::mt19937_64& rng, Keys kind, index_t n)
{
  std::vector<Key> key(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < key.size(); ++i) {
    key[i] = static_cast<Key>(rng());
    if (kind == Keys::few) { key[i] %= 5; }
    if (kind == Keys::equal) { key[i] = static_cast<Key>(0xa5a5a5a5a5a5a5a5u); }
  }
  if (kind == Keys::ascending || kind == Keys::descending) { std::sort(key.begin(), key.end()); }
  if (kind == Keys::descending) { std::reverse(key.begin(), key.end()); }
  return key;
}

// The order of std::stable_sort by the low bits, on 1, 2 and 3 threads.
template <class Key>
void check_sort(Spaces const& spaces, std::vector<Key> const& key, int bits)
{
  auto const n    = static_cast<index_t>(key.size());
  auto const mask = static_cast<Key>(~Key{0} >> (static_cast<int>(sizeof(Key)) * 8 - bits));
  std::vector<Id> order(key.size());
  std::iota(order.begin(), order.end(), 0);
  auto const at = [&](Id i) { return key[static_cast<std::size_t>(i)]; };
  std::stable_sort(order.begin(), order.end(), [&](Id a, Id b) {
    return static_cast<Key>(at(a) & mask) < static_cast<Key>(at(b) & mask);
  });
  std::vector<Key> sorted;
  for (Id const i : order) {
    sorted.push_back(at(i));
  }
  std::vector<Id> positions(key.size());
  std::iota(positions.begin(), positions.end(), 0);
  for (auto const& exec : spaces.threads) {
    Tensor<Key, 1, Host> k(exec, n), k_out(exec, n);
    Tensor<Id, 1, Host> v(exec, n), v_out(exec, n);
    moe::test::write(exec, key, k);
    moe::test::write(exec, positions, v);
    moe::sort_pairs(exec, bits, k.view(), v.view(), k_out.view(), v_out.view());
    CAPTURE(exec.threads());
    CAPTURE(n);
    CAPTURE(bits);
    REQUIRE((moe::test::read(exec, k_out) == sorted));
    REQUIRE((moe::test::read(exec, v_out) == order));
  }
}

template <class Key>
void check_sorts(Spaces const& spaces)
{
  std::mt19937_64 rng(1);
  int const key_bits = static_cast<int>(sizeof(Key)) * 8;
  for (index_t const n : {0, 1, 2, 7, 63, 65, 127, 128, 129}) {
    for (int bits = 1; bits <= key_bits; ++bits) {
      for (auto const kind :
           {Keys::random, Keys::few, Keys::equal, Keys::ascending, Keys::descending}) {
        check_sort(spaces, make_keys<Key>(rng, kind, n), bits);
      }
    }
  }
  for (int bits = 1; bits <= key_bits; ++bits) {
    check_sort(spaces, make_keys<Key>(rng, Keys::random, 4097), bits);
  }
  for (int const bits : {1, 11, 13, key_bits - 1, key_bits}) {
    for (auto const kind : {Keys::random, Keys::few, Keys::equal, Keys::descending}) {
      check_sort(spaces, make_keys<Key>(rng, kind, 4097), bits);
    }
    check_sort(spaces, make_keys<Key>(rng, Keys::random, 100000), bits);
  }
  check_sort(spaces, make_keys<Key>(rng, Keys::equal, 100000), 23);
  check_sort(spaces, make_keys<Key>(rng, Keys::few, 100000), 23);
  check_sort(spaces, make_keys<Key>(rng, Keys::ascending, 100000), key_bits);
  check_sort(spaces, make_keys<Key>(rng, Keys::descending, 100000), key_bits);
}

}  // namespace

TEST_CASE("pairs are sorted stably by the low bits of 32-bit keys")
{
  check_sorts<std::uint32_t>(Spaces{});
}

TEST_CASE("pairs are sorted stably by the low bits of 64-bit keys")
{
  check_sorts<std::uint64_t>(Spaces{});
}

TEST_CASE("histogram counts ids in range and no others")
{
  Spaces const spaces;
  std::mt19937 rng(2);
  for (index_t const n : {0, 1, 2, 127, 4097, 100000}) {
    for (int const bins : {1, 2, 5, 257, 1024}) {
      std::vector<Id> key(static_cast<std::size_t>(n)), count(static_cast<std::size_t>(bins), 0);
      for (auto& k : key) {
        k = static_cast<Id>(rng() % static_cast<unsigned>(bins + 4)) - 2;
        if (rng() % 50 == 0) { k = rng() % 2 > 0 ? INT32_MIN : INT32_MAX; }
        if (k >= 0 && k < bins) { ++count[static_cast<std::size_t>(k)]; }
      }
      for (auto const& exec : spaces.threads) {
        Tensor<Id, 1, Host> k(exec, n), c(exec, bins);
        moe::test::write(exec, key, k);
        moe::test::write(exec, std::vector<Id>(count.size(), -1), c);
        moe::histogram(exec, k.const_view(), c.view());
        CAPTURE(exec.threads());
        CAPTURE(n);
        CHECK((moe::test::read(exec, c) == count));
      }
    }
  }
}
