#include <moe/core/tensor.hpp>

#include <doctest/doctest.h>

#include <cstdint>
#include <limits>
#include <type_traits>

#include <moe/exec/host.hpp>

#include "support/tracking_resource.hpp"

using moe::Host, moe::index_t, moe::Tensor;
using moe::test::CountingResource;

static_assert(!std::is_copy_constructible_v<Tensor<float, 2, Host>>);
static_assert(std::is_nothrow_move_constructible_v<Tensor<float, 2, Host>>);
static_assert(std::is_nothrow_move_assignable_v<Tensor<float, 2, Host>>);
static_assert(!std::is_constructible_v<Tensor<float, 2, Host>, Host, int>);

TEST_CASE("a tensor owns memory of its space while it lives")
{
  CountingResource memory;
  Host const exec{{.threads = 1, .resource = &memory}};
  {
    Tensor<double, 2, Host> t(exec, 3, 5);
    CHECK(memory.bytes() == 120);
    CHECK(t.bytes() == 120);
    CHECK(t.extent(1) == 5);
    CHECK(reinterpret_cast<std::uintptr_t>(t.view().data_handle()) % 256 == 0);
    t.view()(2, 4)       = 7;
    auto const& as_const = t;
    static_assert(std::is_same_v<decltype(as_const.view()), moe::View<double const, 2, Host>>);
    CHECK(as_const.view()(2, 4) == 7);
    CHECK(t.const_view()(2, 4) == 7);
  }
  CHECK(memory.blocks() == 0);
  CHECK(memory.mistakes() == 0);
}

TEST_CASE("a moved-from tensor is empty and can be assigned to")
{
  CountingResource memory;
  Host const exec{{.threads = 1, .resource = &memory}};
  Tensor<float, 1, Host> a(exec, 10);
  float const* const at = a.view().data_handle();
  Tensor<float, 1, Host> b(std::move(a));
  CHECK(b.view().data_handle() == at);
  CHECK(a.view().data_handle() == nullptr);  // NOLINT: what this case is about
  CHECK(a.view().size() == 0);
  CHECK(a.bytes() == 0);
  a = Tensor<float, 1, Host>(exec, 4);
  CHECK(memory.blocks() == 2);
  b = std::move(a);
  CHECK(memory.blocks() == 1);
  CHECK(b.extent(0) == 4);
  auto& self = b;
  b          = std::move(self);
  CHECK(b.extent(0) == 4);
  CHECK(b.view().data_handle() != nullptr);
  b = {};
  CHECK(memory.blocks() == 0);
  CHECK(memory.mistakes() == 0);
}

TEST_CASE("a tensor outlives the handle that it was made with, and may cross spaces' handles")
{
  CountingResource memory, other;
  Tensor<float, 1, Host> t;
  CHECK(t.view().empty());
  {
    Host const exec{{.threads = 1, .resource = &memory}};
    t = Tensor<float, 1, Host>(exec, 10);
  }
  CHECK(memory.blocks() == 1);
  {
    Host const exec{{.threads = 1, .resource = &other}};
    t = Tensor<float, 1, Host>(exec, 10);
  }
  CHECK(memory.blocks() == 0);
  CHECK(other.blocks() == 1);
  t = {};
  CHECK(other.blocks() == 0);
  CHECK(memory.mistakes() + other.mistakes() == 0);
}

TEST_CASE("a tensor of no elements has extents and no memory")
{
  CountingResource memory;
  Host const exec{{.threads = 1, .resource = &memory}};
  Tensor<float, 3, Host> t(exec, 4, 0, 8);
  CHECK(t.extent(0) == 4);
  CHECK(t.extent(2) == 8);
  CHECK(t.view().empty());
  CHECK(t.view().data_handle() == nullptr);
  Tensor<float, 3, Host> huge(exec, index_t{1} << 62, index_t{1} << 62, 0);
  CHECK(huge.view().size() == 0);
  CHECK(memory.allocations() == 0);
}

TEST_CASE("extents that are negative or too large are refused before anything is allocated")
{
  CountingResource memory;
  Host const exec{{.threads = 1, .resource = &memory}};
  using Matrix        = Tensor<float, 2, Host>;
  index_t const large = std::numeric_limits<index_t>::max();
  CHECK_THROWS_AS(Matrix(exec, -1, 4), moe::ShapeError);
  CHECK_THROWS_AS(Matrix(exec, 0, -4), moe::ShapeError);
  CHECK_THROWS_AS(Matrix(exec, large, -1), moe::ShapeError);
  CHECK_THROWS_AS(Matrix(exec, ~std::size_t{0}, 1), moe::ShapeError);  // 2^64 - 1 of them
  CHECK_THROWS_AS(Matrix(exec, large, 1), moe::OverflowError);
  CHECK_THROWS_AS(Matrix(exec, index_t{1} << 31, index_t{1} << 30), moe::OverflowError);
  CHECK_THROWS_AS(Matrix(exec, index_t{1} << 32, index_t{1} << 32), moe::OverflowError);
  CHECK(memory.allocations() == 0);
}
