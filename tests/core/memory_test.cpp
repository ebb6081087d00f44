#include "support/tracking_resource.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <vector>

#include <moe/core/tensor.hpp>
#include <moe/exec/host.hpp>

using moe::Host, moe::index_t, moe::Tensor;
using moe::test::CountingResource, moe::test::FailingResource, moe::test::LimitedResource;

TEST_CASE("the counting resource counts, and notices what is given back wrongly")
{
  CountingResource memory;
  void* const a = memory.allocate(100, 64);
  void* const b = memory.allocate(50, 8);
  CHECK(memory.allocations() == 2);
  CHECK(memory.bytes() == 150);
  memory.deallocate(b, 50, 8);
  CHECK(memory.blocks() == 1);
  CHECK(memory.high_water() == 150);
  memory.reset_high_water();
  CHECK(memory.high_water() == 100);
  memory.deallocate(a, 99, 64);
  memory.deallocate(a, 100, 32);
  CHECK(memory.mistakes() == 2);
  memory.deallocate(a, 100, 64);
  memory.deallocate(a, 100, 64);
  CHECK(memory.mistakes() == 3);
  CHECK(memory.bytes() == 0);
}

TEST_CASE("the limited resource refuses what passes its limit, and gives again after that")
{
  LimitedResource memory(100);
  void* const a = memory.allocate(60, 8);
  CHECK_THROWS_AS((void)memory.allocate(41, 8), std::bad_alloc);
  CHECK_THROWS_AS((void)memory.allocate(~std::size_t{0}, 8), std::bad_alloc);
  void* const b = memory.allocate(40, 8);
  memory.set_limit(10);
  memory.deallocate(b, 40, 8);
  CHECK_THROWS_AS((void)memory.allocate(1, 8), std::bad_alloc);
  memory.deallocate(a, 60, 8);
  memory.deallocate(memory.allocate(10, 8), 10, 8);
}

TEST_CASE("the failing resource fails once")
{
  FailingResource memory(2);
  void* const a = memory.allocate(1, 8);
  CHECK(!memory.failed());
  CHECK_THROWS_AS((void)memory.allocate(1, 8), std::bad_alloc);
  CHECK(memory.failed());
  void* const b = memory.allocate(1, 8);
  CHECK(memory.asked() == 3);
  memory.fail_at(0);
  CHECK(!memory.failed());
  memory.deallocate(a, 1, 8);
  memory.deallocate(b, 1, 8);
}

TEST_CASE("a Host whose memory has no more throws OutOfMemoryError with the bytes")
{
  LimitedResource limited(1000);
  Host const exec{{.threads = 1, .resource = &limited}};
  std::string what;
  try {
    Tensor<float, 1, Host>(exec, 251);
  } catch (moe::OutOfMemoryError const& e) {
    CHECK(e.value == "1004");
    what = e.what();
  }
  CHECK(what == "moe::Host::allocate: bytes is 1004, must be what the memory resource can give");
  CHECK_NOTHROW(Tensor<float, 1, Host>(exec, 250));
}

TEST_CASE("no size makes the pool hang or give less than was asked for")
{
  LimitedResource limited(10'000);
  moe::PoolingResource pool(&limited);
  Host const exec{{.threads = 1, .resource = &pool}};
  CHECK_THROWS_AS((Tensor<float, 1, Host>(exec, index_t{1} << 60)), moe::OutOfMemoryError);
  for (int shift : {0, 1, 3, 8}) {
    std::size_t const bytes = ~std::size_t{0} >> shift;
    CHECK_THROWS_AS((void)exec.allocate(bytes), moe::OutOfMemoryError);
    CHECK_THROWS_AS((void)pool.allocate(bytes, 4096), std::bad_alloc);
  }
  CHECK_NOTHROW(Tensor<float, 1, Host>(exec, 250));
}

TEST_CASE("whichever allocation fails, what was made before it is given back")
{
  CountingResource counting;
  FailingResource failing(0, &counting);
  Host const exec{{.threads = 1, .resource = &failing}};
  struct Saved {
    explicit Saved(Host const& h) : a(h, 3, 4), b(h, 10), none(h, 0), c(h, 1) {}
    Tensor<float, 2, Host> a;
    Tensor<double, 1, Host> b, none;
    Tensor<moe::Id, 1, Host> c;
  };
  std::size_t k = 1;
  for (;; ++k) {
    failing.fail_at(k);
    try {
      Saved const saved(exec);
    } catch (moe::OutOfMemoryError const&) {
    }
    CHECK(counting.blocks() == 0);
    if (!failing.failed()) { break; }
  }
  CHECK(k == 4);
  CHECK(counting.mistakes() == 0);
}
