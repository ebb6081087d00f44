#include <moe/core/view.hpp>

#include <doctest/doctest.h>

#include <array>
#include <type_traits>
#include <vector>

using moe::index_t, moe::Row, moe::View;

namespace {

struct Here {};
struct There {};

struct Mdspan {  // what std::mdspan shows
  float* data;
  std::array<std::size_t, 3> extents;
  [[nodiscard]] float* data_handle() const { return data; }
  [[nodiscard]] std::size_t extent(std::size_t r) const { return extents[r]; }
};

template <class To, class From>
constexpr bool makes = std::is_constructible_v<To, From>;
template <class From, class To>
constexpr bool becomes = std::is_convertible_v<From, To>;

// const is added silently and never taken away
static_assert(becomes<View<float, 2, Here>, View<float const, 2, Here>>);
static_assert(!makes<View<float, 2, Here>, View<float const, 2, Here>>);
// neither space, rank nor element type change, not even when asked to
static_assert(!makes<View<float, 2, There>, View<float, 2, Here>>);
static_assert(!makes<View<float const, 2, There>, View<float, 2, Here>>);
static_assert(!makes<View<float, 1, Here>, View<float, 2, Here>>);
static_assert(!makes<View<double, 2, Here>, View<float, 2, Here>>);
// another library's view is taken when asked for
static_assert(makes<View<float, 3, Here>, Mdspan>);
static_assert(!becomes<Mdspan, View<float, 3, Here>>);
static_assert(!makes<View<float, 1, Here>, std::vector<float>>);
static_assert(!makes<View<float, 2, Here>, float*>);
static_assert(makes<View<float, 1, Here>, Mdspan const&>);

static_assert(std::is_trivially_copyable_v<View<float, 3, Here>>);
static_assert(sizeof(View<float, 2, Here>) == sizeof(float*) + 2 * sizeof(index_t));
static_assert(std::is_same_v<View<float const, 2, Here>::value_type, float>);

static_assert(becomes<Row<float>, Row<float const>> && !makes<Row<float>, Row<float const>>);

}  // namespace

TEST_CASE("a view indexes in row-major order")
{
  std::vector<float> data(24);
  View<float, 3, Here> const v(data.data(), 2, 3, 4);
  v(1, 2, 3) = 1;
  v(0, 1, 0) = 2;
  CHECK(data[23] == 1);
  CHECK(data[4] == 2);
  CHECK(v.size() == 24);
  CHECK(v.extent(1) == 3);
  CHECK(v.extents() == moe::Array<index_t, 3>{2, 3, 4});
  View<float const, 2, Here> const m = View<float, 2, Here>(data.data(), std::size_t{6}, 4);
  CHECK(&m(5, 3) == &data[23]);
  CHECK(&View<float, 1, Here>(data.data(), 24)(7) == &data[7]);
}

TEST_CASE("a view of another library's view has its pointer and extents")
{
  std::vector<float> data(24);
  View<float, 3, Here> const v(Mdspan{data.data(), {2, 3, 4}});
  CHECK(v.data_handle() == data.data());
  CHECK(v.extents() == moe::Array<index_t, 3>{2, 3, 4});
  View<float const, 3, Here> const c(Mdspan{data.data(), {2, 3, 4}});
  CHECK(&c(1, 0, 0) == &data[12]);
}

TEST_CASE("an empty view is empty, whatever its other extents")
{
  CHECK(View<float, 2, Here>{}.empty());
  CHECK(View<float, 2, Here>{}.data_handle() == nullptr);
  CHECK(View<float, 2, Here>(nullptr, 5, 0).empty());
  CHECK(View<float, 3, Here>(nullptr, index_t{1} << 40, index_t{1} << 40, 0).size() == 0);
}

TEST_CASE("row of a matrix, its first and last elements")
{
  std::vector<float> data{0, 1, 2, 3, 4, 5};
  Row<float> const r = moe::row(View<float, 2, Here>(data.data(), 2, 3), 1);
  CHECK(r.size() == 3);
  CHECK(r[0] == 3);
  CHECK(r.first(2).size() == 2);
  CHECK(&r.first(2)[0] == &data[3]);
  CHECK(r.last(2).size() == 2);
  CHECK(&r.last(2)[0] == &data[4]);
  CHECK(r.first(0).empty());
  Row<float const> const c = r;
  CHECK(c.data() == &data[3]);
  CHECK(Row<float>{}.empty());
  // beyond 2^31 elements only the row's address is computed
  float* const base = data.data();
  View<float, 2, Here> const wide(base, 1, 6);
  CHECK(moe::row(wide, 0).data() == base);
}
