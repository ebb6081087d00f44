#include <moe/exec/host/pooling_resource.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include <moe/core/tensor.hpp>
#include <moe/exec/host.hpp>

#include "support/tracking_resource.hpp"

using moe::PoolingResource;
using moe::test::CountingResource, moe::test::FailingResource, moe::test::LimitedResource;

TEST_CASE("the pool rounds up, by a quarter at most beyond small sizes")
{
  CHECK(PoolingResource::rounded(0) == 0);
  CHECK(PoolingResource::rounded(1) == 64);
  CHECK(PoolingResource::rounded(64) == 64);
  CHECK(PoolingResource::rounded(513) == 640);
  std::mt19937_64 random(1);
  for (int i = 0; i < 100'000; ++i) {
    std::size_t const bytes   = random() >> (1 + i % 62);
    std::size_t const rounded = PoolingResource::rounded(bytes);
    bool const fits           = rounded >= bytes && rounded % 64 == 0 &&
                      (rounded - bytes <= bytes / 4 || rounded - bytes < 64);
    bool const stable = PoolingResource::rounded(rounded) == rounded;
    CAPTURE(bytes);
    REQUIRE(fits);
    REQUIRE(stable);
  }
}

TEST_CASE("a repeated pattern asks the upstream for nothing, and the end gives everything back")
{
  CountingResource upstream;
  {
    PoolingResource pool(&upstream);
    moe::Host const exec{{.threads = 1, .resource = &pool}};
    auto const step = [&] {
      moe::Tensor<float, 2, moe::Host> x(exec, 37, 16), y(exec, 37, 16);
      moe::Tensor<moe::Id, 1, moe::Host> id(exec, 74);
      std::memset(x.view().data_handle(), 1, x.bytes());
      std::memset(y.view().data_handle(), 2, y.bytes());
      CHECK(x.view().data_handle() != y.view().data_handle());
    };
    step();
    std::size_t const first = upstream.allocations();
    CHECK(first == 3);
    for (int i = 0; i < 100; ++i) {
      step();
    }
    CHECK(upstream.allocations() == first);
    CHECK(upstream.deallocations() == 0);
    moe::Tensor<float, 1, moe::Host> kept(exec, 1000);
    pool.release();  // what is not in use
    CHECK(upstream.blocks() == 1);
    step();
    CHECK(upstream.allocations() == first + 4);
    kept = {};
  }
  CHECK(upstream.bytes() == 0);
  CHECK(upstream.mistakes() == 0);
}

TEST_CASE("blocks are aligned, also beyond the pool's own alignment")
{
  CountingResource upstream;
  {
    PoolingResource pool(&upstream);
    for (std::size_t alignment : {std::size_t{1}, std::size_t{256}, std::size_t{4096}}) {
      std::vector<void*> blocks;
      for (int i = 0; i < 8; ++i) {
        blocks.push_back(pool.allocate(100, alignment));
        CHECK(reinterpret_cast<std::uintptr_t>(blocks.back()) %
                  std::max(alignment, std::size_t{256}) ==
              0);
      }
      for (void* p : blocks) {
        pool.deallocate(p, 100, alignment);
      }
    }
  }
  CHECK(upstream.bytes() == 0);
  CHECK(upstream.mistakes() == 0);
}

TEST_CASE("free blocks of other sizes do not make the pool run out of memory")
{
  LimitedResource limited(4096);
  PoolingResource pool(&limited);
  for (std::size_t const bytes : {1024u, 2048u, 4096u, 1024u}) {
    pool.deallocate(pool.allocate(bytes), bytes);
  }
  void* const p = pool.allocate(2048);
  CHECK_THROWS_AS((void)pool.allocate(4096), std::bad_alloc);
  pool.deallocate(p, 2048);
  pool.deallocate(pool.allocate(4096), 4096);
}

TEST_CASE("a failed allocation leaves the pool as it was")
{
  CountingResource counting;
  FailingResource failing(1, &counting);
  {
    PoolingResource pool(&failing);
    CHECK_THROWS_AS((void)pool.allocate(100), std::bad_alloc);
    void* const a = pool.allocate(100);
    std::memset(a, 0, 100);
    pool.deallocate(a, 100);
    CHECK(pool.allocate(100) == a);
    pool.deallocate(a, 100);
  }
  CHECK(counting.allocations() == 1);
  CHECK(counting.bytes() == 0);
}

TEST_CASE("threads may use the pool at once, and give back one another's blocks")
{
  CountingResource upstream;
  {
    PoolingResource pool(&upstream);
    auto const work = [&](unsigned seed) {
      std::mt19937 random(seed);
      std::vector<std::pair<unsigned char*, std::size_t>> mine;
      bool right = true;
      for (int i = 0; i < 2000; ++i) {
        std::size_t const bytes = 1 + random() % 5000;
        auto* const p           = static_cast<unsigned char*>(pool.allocate(bytes));
        std::memset(p, static_cast<int>(seed), bytes);
        mine.emplace_back(p, bytes);
        if (mine.size() > 20) {
          auto const [q, n] = mine[random() % 20];
          right             = right && q[0] == seed && q[n - 1] == seed;
          pool.deallocate(q, n);
          std::erase(mine, std::pair{q, n});
        }
      }
      for (auto const& [q, n] : mine) {
        pool.deallocate(q, n);
      }
      return right;
    };
    bool one = false, two = false;
    std::thread other([&] { one = work(1); });
    two = work(2);
    other.join();
    CHECK(one);
    CHECK(two);
  }
  CHECK(upstream.bytes() == 0);
  CHECK(upstream.mistakes() == 0);
}
