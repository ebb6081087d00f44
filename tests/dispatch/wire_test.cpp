// Compile at -O1: many instantiations.
// On every space.
#include "support/spaces.hpp"

#include <moe/dispatch/wire_rows.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <type_traits>
#include <vector>

#include "support/rows.hpp"
#if !defined(__CUDACC__)
#include "support/lane_team.hpp"
#endif

using moe::BFloat16, moe::BFloat16Wire, moe::ElementWire, moe::Float8, moe::Float8Wire,
    moe::FloatWire, moe::Half, moe::Host, moe::Id, moe::index_t, moe::IndexedRows, moe::Tensor,
    moe::View;
using moe::test::get, moe::test::number, moe::test::one_thread, moe::test::put,
    moe::test::same_bits, moe::test::TestSpace, moe::test::three_threads;

namespace {

std::size_t sized(index_t n)
{
  return static_cast<std::size_t>(n);
}

// ---- e4m3

// The value of a code, from the format's definition.
double value_of(int code)
{
  int const exponent = (code >> 3) & 15, mantissa = code & 7;
  double const magnitude = (code & 127) == 127 ? NAN
                           : exponent == 0     ? std::ldexp(mantissa, -9)
                                               : std::ldexp(8 + mantissa, exponent - 10);
  return (code & 128) != 0 ? -magnitude : magnitude;
}

// The nearest of the 127 values, of two the one with an even code, by looking at all of them.
int nearest(double x)
{
  if (std::isnan(x)) { return 127; }
  int best = 0;
  for (int c = 1; c < 127; ++c) {
    double const is = std::fabs(std::fabs(x) - value_of(c));
    double const by = std::fabs(std::fabs(x) - value_of(best));
    if (is < by || (is == by && c % 2 == 0)) { best = c; }
  }
  return best + (std::signbit(x) ? 128 : 0);
}

// What the space makes of these floats, and of the codes.
template <class ExecT>
struct ToFloat8Row {
  View<float const, 1, ExecT> from;
  View<std::uint8_t, 1, ExecT> code;
  View<float, 1, ExecT> back;
  template <moe::Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t i) const
  {
    if (team.lane() != 0) { return; }
    Float8 const f(from(i));
    code(i) = f.bits;
    back(i) = f;
  }
};

void check_float8(std::vector<float> const& values)
{
  auto const n    = static_cast<index_t>(values.size());
  auto const from = put<float>(one_thread(), values, n);
  Tensor<std::uint8_t, 1, TestSpace> code(one_thread(), n);
  Tensor<float, 1, TestSpace> back(one_thread(), n);
  one_thread().for_each_row(n, ToFloat8Row<TestSpace>{from.const_view(), code.view(), back.view()});
  auto const codes = get(one_thread(), code.const_view());
  auto const backs = get(one_thread(), back.const_view());
  int wrong        = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    int const want     = std::isinf(values[i]) ? (values[i] > 0 ? 126 : 254) : nearest(values[i]);
    double const value = value_of(want);
    bool const same    = std::isnan(value) ? std::isnan(backs[i])
                                           : static_cast<double>(backs[i]) == value &&
                                              std::signbit(backs[i]) == std::signbit(value);
    if (codes[i] != want || !same) {
      if (wrong == 0) { MESSAGE(values[i] << " became " << int{codes[i]} << ", not " << want); }
      ++wrong;
    }
  }
  CHECK(wrong == 0);
}

}  // namespace

TEST_CASE("float8: all codes, the middles between them, and what is next to either")
{
  std::vector<float> values;
  auto const add = [&](double v) {
    auto const f = static_cast<float>(v);
    for (float const x : {f, std::nextafter(f, INFINITY), std::nextafter(f, -INFINITY)}) {
      values.push_back(x);
      values.push_back(-x);
    }
  };
  for (int c = 0; c < 127; ++c) {
    add(value_of(c));
    if (c < 126) { add((value_of(c) + value_of(c + 1)) / 2); }
  }
  for (double const v : {449., 463.9, 464., 465., 480., 1e10, 3.4e38, 1e-10, 1e-38}) {
    add(v);
  }
  for (float const v : {INFINITY, std::numeric_limits<float>::denorm_min()}) {
    values.push_back(v);
    values.push_back(-v);
  }
  values.push_back(std::numeric_limits<float>::quiet_NaN());
  check_float8(values);
  // A NaN with any payload, both signs.
  check_float8({std::bit_cast<float>(0x7f800001u), std::bit_cast<float>(0xffffffffu)});
}

TEST_CASE("float8: floats of all magnitudes")
{
  std::mt19937 random(1);
  std::vector<float> values;
  for (int i = 0; i < 20'000; ++i) {
    values.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(random())));
  }
  std::uniform_real_distribution<float> exponent(-12, 10);
  for (int i = 0; i < 20'000; ++i) {
    values.push_back(std::exp2(exponent(random)) * (i % 2 == 0 ? 1.f : -1.f));
  }
  check_float8(values);
}

TEST_CASE("float8: every code comes back, in constants too")
{
  int wrong = 0;
  for (int c = 0; c < 256; ++c) {
    Float8 f;
    f.bits        = static_cast<std::uint8_t>(c);
    float const v = f;
    bool const same =
        (c & 127) == 127 ? std::isnan(v) && Float8(v).bits == 127 : Float8(v).bits == c;
    wrong += !same;
  }
  CHECK(wrong == 0);
  static_assert(Float8(448.f).bits == 0x7e && Float8(-1e9f).bits == 0xfe);
  static_assert(float{Float8(0x1p-9f)} == 0x1p-9f && Float8(0x1p-10f).bits == 0);
}

// ---- rows

namespace {

// Random rows: each of one magnitude, some columns far smaller; some with zeros, subnormals and
// what is not finite.
template <class T>
std::vector<T> wide_rows(std::mt19937& random, index_t rows, index_t width, bool special)
{
  std::uniform_real_distribution<double> uniform(-1, 1), far(-30, 0);
  double const top = std::is_same_v<T, Half> ? 15 : 126, low = std::is_same_v<T, Half> ? -24 : -140;
  std::uniform_real_distribution<double> magnitude(low, top);
  std::vector<T> values;
  for (index_t r = 0; r < rows; ++r) {
    double const scale = std::exp2(magnitude(random));
    for (index_t d = 0; d < width; ++d) {
      double v = uniform(random) * scale;
      switch (random() % 16) {
        case 0:
          v *= std::exp2(far(random));
          break;
        case 1:
          v = random() % 2 == 0 ? 0. : -0.;
          break;
        case 2:
          if (special && r % 3 == 0) {
            v = random() % 2 == 0 ? NAN : random() % 2 == 0 ? INFINITY : -INFINITY;
          }
          break;
        default:
          break;
      }
      values.push_back(moe::test::element<T>(v));
    }
  }
  return values;
}

template <class T, class ExecT>
Tensor<T, 2, ExecT> upload(ExecT const& exec, std::vector<T> const& values, index_t rows, index_t D)
{
  Tensor<T, 2, ExecT> t(exec, rows, D);
  exec.copy_from_host(t.view().data_handle(), values.data(), t.bytes());
  return t;
}

template <class T>
struct Travelled {
  std::vector<std::byte> bytes;
  std::vector<T> rows;
};

// Through the wire: rows index[i] of `values` (or all in order), into memory full of ones.
template <class T, class WireT, class ExecT>
Travelled<T> travel(ExecT const& exec,
                    WireT const& wire,
                    std::vector<T> const& values,
                    index_t width,
                    std::vector<Id> const& index = {})
{
  index_t const N    = static_cast<index_t>(values.size()) / width;
  index_t const rows = index.empty() ? N : static_cast<index_t>(index.size());
  auto const from    = upload<T>(exec, values, N, width);
  auto const at      = put<Id>(exec, index, index.empty() ? 0 : rows);
  index_t const B    = wire.template row_bytes<T>(width);
  auto bytes =
      upload<std::byte>(exec, std::vector<std::byte>(sized(rows * B), std::byte{255}), rows, B);
  moe::encode_rows(
      exec,
      wire,
      IndexedRows<T, ExecT>{from.const_view(),
                            index.empty() ? View<Id const, 1, ExecT>{} : at.const_view()},
      rows,
      bytes.view());
  Tensor<T, 2, ExecT> back(exec, rows, width);
  moe::decode_rows(exec, wire, bytes.const_view(), back.view());
  return {get(exec, bytes.const_view()), get(exec, back.const_view())};
}

// The same bits, but that any NaN is as good as another.
template <class T>
bool same_numbers(std::vector<T> const& a, std::vector<T> const& b)
{
  if (a.size() != b.size()) { return false; }
  for (std::size_t i = 0; i < a.size(); ++i) {
    bool const nan = std::isnan(number(a[i])) && std::isnan(number(b[i]));
    if (!nan && std::memcmp(&a[i], &b[i], sizeof(T)) != 0) { return false; }
  }
  return true;
}

// Any wire: what is exact comes back; an index chooses rows, -1 zeros; bits do not depend on
// threads; the space's bits are Host's, on the wire and after.
template <class T, class WireT>
void check_wire(unsigned seed, WireT const& wire)
{
  std::mt19937 random(seed);
  Host const host{{.threads = 1, .products = moe::Products::own}};
  for (index_t const width :
       {1, 2, 3, 4, 7, 8, 16, 24, 120, 127, 128, 129, 136, 256, 300, 1032, 1160}) {
    CAPTURE(width);
    index_t const N   = 6;
    auto const values = wide_rows<T>(random, N, width, true);
    auto const plain  = travel<T>(one_thread(), wire, values, width);
    if (WireT::template exact<T>) { CHECK(same_numbers(plain.rows, values)); }
    index_t const B = wire.template row_bytes<T>(width);
    if (!WireT::template in_place<T>) { CHECK(B % 16 == 0); }

    auto const on_host = travel<T>(host, wire, values, width);
    CHECK(same_numbers(plain.rows, on_host.rows));
    if (std::is_same_v<WireT, Float8Wire>) {
      CHECK(same_bits(plain.bytes, on_host.bytes));
    } else {  // elements, of which a NaN may have another payload
      auto const finite = wide_rows<T>(random, N, width, false);
      CHECK(same_bits(travel<T>(one_thread(), wire, finite, width).bytes,
                      travel<T>(host, wire, finite, width).bytes));
    }

    std::vector<Id> const index{3, -1, 0, 5, 5, -1, 1};
    auto const chosen = travel<T>(three_threads(), wire, values, width, index);
    int wrong         = 0;
    for (std::size_t i = 0; i < index.size(); ++i) {
      for (std::size_t d = 0; d < sized(width); ++d) {
        T const is  = chosen.rows[i * sized(width) + d];
        T const was = index[i] < 0 ? T{} : plain.rows[sized(index[i]) * sized(width) + d];
        wrong += std::memcmp(&is, &was, sizeof(T)) != 0;
      }
      for (std::size_t b = 0; b < sized(B); ++b) {
        std::byte const was =
            index[i] < 0 ? std::byte{0} : plain.bytes[sized(index[i]) * sized(B) + b];
        wrong += chosen.bytes[i * sized(B) + b] != was;
      }
    }
    CHECK(wrong == 0);
  }
}

template <class T>
void check_wires(unsigned seed)
{
  check_wire<T>(seed, ElementWire{});
  check_wire<T>(seed + 1, FloatWire{});
  check_wire<T>(seed + 2, BFloat16Wire{});
  check_wire<T>(seed + 3, Float8Wire{});
}

// One row through Float8Wire by Host, against the bound that the wire states and the sharper one
// that follows from its scale.
template <class T>
int beyond_bound(std::vector<T> const& row)
{
  auto const width = static_cast<index_t>(row.size());
  // In float, before the rounding to T.
  std::vector<float> as_float;
  for (T const v : row) {
    as_float.push_back(static_cast<float>(v));
  }
  auto const got  = travel<float>(one_thread(), Float8Wire{}, as_float, width).rows;
  auto const as_T = travel<T>(one_thread(), Float8Wire{}, row, width).rows;
  int wrong       = 0;
  for (index_t begin = 0; begin < width; begin += Float8Wire::block) {
    index_t const end = std::min(width, begin + Float8Wire::block);
    double amax       = 0;
    for (index_t d = begin; d < end; ++d) {
      double const x = std::fabs(double{as_float[sized(d)]});
      if (std::isfinite(x)) { amax = std::max(amax, x); }
    }
    double const scale = std::max(amax / 448, 0x1p-126);
    for (index_t d = begin; d < end; ++d) {
      double const x = as_float[sized(d)], y = got[sized(d)];
      if (!std::isfinite(x)) {
        wrong += !(std::isnan(y) && std::isnan(number(as_T[sized(d)])));
        continue;
      }
      double const error  = std::fabs(y - x);
      double const stated = std::max({std::fabs(x) / 16, amax / 458000, 0x1p-135});
      double const sharp  = std::max(std::fabs(x) / 17, scale / 1024) * (1 + 0x1p-18) + 0x1p-149;
      wrong += !(error <= stated) || !(error <= sharp);
      wrong += amax >= 448 * 0x1p-126 && std::fabs(y) > amax * (1 + 0x1p-22);
      wrong += x == 0 && (y != 0 || std::signbit(y) != std::signbit(x));
      wrong += number(as_T[sized(d)]) != number(moe::test::element<T>(y));
    }
  }
  return wrong;
}

}  // namespace

TEST_CASE("rows travel: float")
{
  check_wires<float>(1);
}
TEST_CASE("rows travel: double")
{
  if constexpr (moe::test::space_has_double) { check_wires<double>(2); }
}
TEST_CASE("rows travel: half")
{
  check_wires<Half>(3);
}
TEST_CASE("rows travel: bfloat16")
{
  check_wires<BFloat16>(4);
}

TEST_CASE("a narrower wire rounds as the element type does")
{
  std::mt19937 random(5);
  auto const values = wide_rows<float>(random, 5, 136, true);
  std::vector<float> rounded;
  for (float const v : values) {
    rounded.push_back(BFloat16(v));
  }
  CHECK(same_numbers(travel<float>(one_thread(), BFloat16Wire{}, values, 136).rows, rounded));
  if constexpr (moe::test::space_has_double) {
    std::vector<double> const doubles(rounded.begin(), rounded.end());
    CHECK(same_numbers(travel<double>(one_thread(), FloatWire{}, doubles, 136).rows, doubles));
    CHECK(travel<double>(one_thread(), FloatWire{}, {0.1, 1e300}, 2).rows ==
          std::vector<double>{double{0.1f}, INFINITY});
  }
}

TEST_CASE("float8 rows keep the stated bound: all widths, all magnitudes")
{
  std::mt19937 random(6);
  int wrong = 0;
  for (index_t width = 1; width <= 300; ++width) {
    wrong += beyond_bound(wide_rows<float>(random, 1, width, false));
    wrong += beyond_bound(wide_rows<BFloat16>(random, 1, width, width % 2 == 0));
    wrong += beyond_bound(wide_rows<Half>(random, 1, width, width % 3 == 0));
  }
  CHECK(wrong == 0);
}

TEST_CASE("float8 rows keep the stated bound: the hard ones")
{
  // One element alone, at every exponent: it is the scale, and comes back to within float's
  // roundings.
  int wrong = 0;
  for (int e = -149; e < 128; ++e) {
    for (float const m : {1.f, 1.25f, 1.9999999f}) {
      float const x = std::ldexp(m, e);
      wrong += beyond_bound(std::vector<float>{-x});
      float const y = travel<float>(one_thread(), Float8Wire{}, {x}, 1).rows[0];
      if (e > -117) { wrong += !(std::fabs(y - x) <= x * 0x1p-22f); }
    }
  }
  // The values of all codes, their middles and neighbours under scales that are a power of two and
  // that are not, so that products round as well.
  for (float const amax : {448.f, 1.f, 0.1f, 3e38f, 1e-30f, 1.2e-38f, 448 * 0x1p-126f, 1e-42f}) {
    std::vector<float> row;
    for (int c = 0; c < 126; ++c) {
      double const middle = (value_of(c) + value_of(c + 1)) / 2;
      for (double const v : {value_of(c), middle}) {
        auto const x = static_cast<float>(v / 448 * double{amax});
        row.insert(row.end(), {x, -std::nextafter(x, INFINITY), std::nextafter(x, -INFINITY)});
      }
      while (row.size() % 128 != 0 && row.size() % 128 > 121) {
        row.push_back(amax);
      }
    }
    for (std::size_t b = 0; b < row.size(); b += 128) {
      row[b] = amax;  // every block has the same scale
    }
    wrong += beyond_bound(row);
  }
  CHECK(wrong == 0);

  // Nothing finite, or nothing at all, in a block beside an ordinary one.
  std::vector<float> odd(256, 2.f);
  std::fill_n(odd.begin(), 128, NAN);
  CHECK(beyond_bound(odd) == 0);
  std::fill_n(odd.begin(), 128, -INFINITY);
  CHECK(beyond_bound(odd) == 0);
  std::fill_n(odd.begin(), 128, -0.f);
  CHECK(beyond_bound(odd) == 0);
  odd[7] = 0x1p-149f;
  CHECK(beyond_bound(odd) == 0);
  // The largest float of all does not overflow on its way back.
  CHECK(travel<float>(one_thread(), Float8Wire{}, {std::numeric_limits<float>::max(), 1.f}, 2)
            .rows[0] == std::numeric_limits<float>::max());
}

#if !defined(__CUDACC__)  // whose team is a warp
TEST_CASE("a wire's row functions give the same bits for any team")
{
  std::mt19937 random(7);
  moe::test::Lanes lanes(3);
  for (index_t const width : {1, 5, 128, 131, 300}) {
    auto const values = wide_rows<float>(random, 1, width, true);
    auto const check  = [&](auto const& wire) {
      auto const B = sized(wire.template row_bytes<float>(width));
      std::vector<std::byte> alone(B, std::byte{1}), together(B, std::byte{2});
      wire.encode(moe::SerialTeam{}, values.data(), width, alone.data());
      lanes.run([&](auto team) { wire.encode(team, values.data(), width, together.data()); });
      CHECK(same_bits(alone, together));
      std::vector<float> back(sized(width)), back_together(sized(width));
      wire.decode(moe::SerialTeam{}, alone.data(), width, back.data());
      lanes.run([&](auto team) { wire.decode(team, alone.data(), width, back_together.data()); });
      CHECK(same_bits(back, back_together));
    };
    check(ElementWire{});
    check(FloatWire{});
    check(BFloat16Wire{});
    check(Float8Wire{});
  }
}
#endif

TEST_CASE("packing copies rows of any width, with rows of zeros")
{
  std::mt19937 random(8);
  auto const check = [&]<class T>(T) {
    for (index_t const D : {1, 3, 8, 24, 129, 512, 1000, 1544}) {
      index_t const N = 9, rows = 21;
      auto const values = wide_rows<T>(random, N, D, true);
      std::vector<Id> index(sized(rows));
      for (auto& i : index) {
        i = static_cast<Id>(random() % 10) - 1;
      }
      auto const from = upload<T>(one_thread(), values, N, D);
      auto const at   = put<Id>(one_thread(), index, rows);
      Tensor<T, 2, TestSpace> to(one_thread(), rows, D);
      moe::gather_rows(one_thread(),
                       IndexedRows<T, TestSpace>{from.const_view(), at.const_view()},
                       rows,
                       to.view());
      std::vector<T> want;
      for (Id const i : index) {
        for (index_t d = 0; d < D; ++d) {
          want.push_back(i < 0 ? T{} : values[sized(i * D + d)]);
        }
      }
      CHECK(same_bits(get(one_thread(), to.const_view()), want));
    }
  };
  check(float{});
  check(BFloat16{});
  if constexpr (moe::test::space_has_double) { check(double{}); }
}

TEST_CASE("no rows, and rows on memory that is not aligned to 16 bytes")
{
  std::mt19937 random(9);
  index_t const D = 136, N = 3;
  auto const values = wide_rows<BFloat16>(random, N, D, false);
  std::vector<BFloat16> shifted(1);
  shifted.insert(shifted.end(), values.begin(), values.end());
  auto const memory  = upload<BFloat16>(one_thread(), shifted, 1, N * D + 1);
  auto const aligned = travel<BFloat16>(one_thread(), Float8Wire{}, values, D);
  View<BFloat16 const, 2, TestSpace> const from(memory.const_view().data_handle() + 1, N, D);
  index_t const B = Float8Wire::row_bytes<BFloat16>(D);
  Tensor<std::byte, 2, TestSpace> bytes(one_thread(), N, B);
  moe::encode_rows(
      one_thread(), Float8Wire{}, IndexedRows<BFloat16, TestSpace>{from, {}}, N, bytes.view());
  CHECK(same_bits(get(one_thread(), bytes.const_view()), aligned.bytes));
  moe::encode_rows(
      one_thread(), Float8Wire{}, IndexedRows<BFloat16, TestSpace>{from, {}}, 0, bytes.view());
  moe::decode_rows(one_thread(),
                   Float8Wire{},
                   bytes.const_view(),
                   View<BFloat16, 2, TestSpace>(static_cast<BFloat16*>(nullptr), 0, D));
  CHECK(same_bits(get(one_thread(), bytes.const_view()), aligned.bytes));

  Tensor<BFloat16, 2, TestSpace> wider(one_thread(), N, D + 16), more(one_thread(), N + 1, D);
  CHECK_THROWS_AS(moe::decode_rows(one_thread(), Float8Wire{}, bytes.const_view(), wider.view()),
                  moe::Error);
  CHECK_THROWS_AS(moe::decode_rows(one_thread(), Float8Wire{}, bytes.const_view(), more.view()),
                  moe::Error);
  CHECK_THROWS_AS(moe::encode_rows(one_thread(),
                                   Float8Wire{},
                                   IndexedRows<BFloat16, TestSpace>{more.const_view(), {}},
                                   N + 1,
                                   bytes.view()),
                  moe::Error);
}

// ---- the contract

namespace {

enum class Miss {
  nothing,
  exact,
  in_place,
  row_bytes,
  row_bytes_type,
  encode,
  encode_not_const,
  decode,
  decode_result,
  copyable
};

template <Miss miss>
struct Says {
  template <class>
  static constexpr bool exact = true;
  template <class>
  static constexpr bool in_place = true;
};
template <>
struct Says<Miss::exact> {
  template <class>
  static constexpr bool in_place = true;
};
template <>
struct Says<Miss::in_place> {
  template <class>
  static constexpr bool exact = true;
};
template <Miss miss>
struct Copied {};
template <>
struct Copied<Miss::copyable> {
  std::vector<int> owned;
};

template <Miss miss>
struct TestWire : Says<miss>, Copied<miss> {
  template <class T>
    requires(miss != Miss::row_bytes)
  std::conditional_t<miss == Miss::row_bytes_type, int, index_t> row_bytes(index_t) const;
  template <moe::Team G, class T>
    requires(miss != Miss::encode && miss != Miss::encode_not_const)
  void encode(G, T const*, index_t, std::byte*) const;
  template <moe::Team G, class T>
    requires(miss == Miss::encode_not_const)
  void encode(G, T const*, index_t, std::byte*);
  template <moe::Team G, class T>
    requires(miss != Miss::decode)
  std::conditional_t<miss == Miss::decode_result, int, void> decode(G,
                                                                    std::byte const*,
                                                                    index_t,
                                                                    T*) const;
};

struct Parts {
  bool says, row_bytes, encode, decode, wire;
  friend constexpr bool operator==(Parts const&, Parts const&) = default;
};
template <Miss miss, class T = BFloat16>
constexpr Parts parts = {moe::SaysExact<TestWire<miss>, T>,
                         moe::HasRowBytes<TestWire<miss>, T>,
                         moe::HasEncode<TestWire<miss>, T>,
                         moe::HasDecode<TestWire<miss>, T>,
                         moe::Wire<TestWire<miss>>};

static_assert(parts<Miss::nothing> == Parts{true, true, true, true, true});
static_assert(parts<Miss::exact> == Parts{false, true, true, true, false});
static_assert(parts<Miss::in_place> == Parts{false, true, true, true, false});
static_assert(parts<Miss::row_bytes> == Parts{true, false, true, true, false});
static_assert(parts<Miss::row_bytes_type> == Parts{true, false, true, true, false});
static_assert(parts<Miss::encode> == Parts{true, true, false, true, false});
static_assert(parts<Miss::encode_not_const> == Parts{true, true, false, true, false});
static_assert(parts<Miss::decode> == Parts{true, true, true, false, false});
static_assert(parts<Miss::decode_result> == Parts{true, true, true, false, false});
static_assert(parts<Miss::copyable> == Parts{true, true, true, true, false});

template <class W, class T>
constexpr bool exact = W::template exact<T>;
template <class W, class T>
constexpr bool in_place = W::template in_place<T>;

static_assert(exact<ElementWire, Half> && in_place<ElementWire, double>);
static_assert(exact<FloatWire, float> && exact<FloatWire, Half> && exact<FloatWire, BFloat16>);
static_assert(!exact<FloatWire, double> && !in_place<FloatWire, Half> &&
              in_place<FloatWire, float>);
static_assert(exact<BFloat16Wire, BFloat16> && !exact<BFloat16Wire, Half> &&
              !exact<BFloat16Wire, float>);
static_assert(!exact<Float8Wire, BFloat16> && !in_place<Float8Wire, Half>);
static_assert(ElementWire::row_bytes<BFloat16>(7) == 14 && BFloat16Wire::row_bytes<float>(7) == 16);
static_assert(Float8Wire::row_bytes<BFloat16>(1) == 32 &&
              Float8Wire::row_bytes<BFloat16>(2048) == 2048 + 64 &&
              Float8Wire::row_bytes<BFloat16>(129) == 144 + 16);

}  // namespace
