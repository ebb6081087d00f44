#include <moe/exec/host/thread_pool.hpp>

#include <doctest/doctest.h>

#if defined(__linux__)
#include <sys/resource.h>
#endif

#include <algorithm>
#include <atomic>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <moe/exec/host.hpp>

using moe::Host, moe::index_t;

namespace {

struct CountRow {
  int* hits;  // plain: two threads on one row would be a race that a sanitizer sees
  template <moe::Team G>
  void operator()(G, index_t i) const
  {
    ++hits[i];
  }
};

bool all_are(std::vector<int> const& hits, int n)
{
  return std::all_of(hits.begin(), hits.end(), [n](int h) { return h == n; });
}

std::vector<int> const thread_counts{1, 2, 3, 4, 7, 16};

}  // namespace

TEST_CASE("every row and every task is run once")
{
  for (int threads : thread_counts) {
    Host const exec{{.threads = threads}};
    CHECK(exec.threads() == threads);
    for (int n : {0, 1, 2, 3, 7, 15, 16, 17, 31, 32, 33, 47, 48, 49, 64, 255, 256, 257, 4099}) {
      CAPTURE(threads);
      CAPTURE(n);
      std::vector<int> rows(static_cast<std::size_t>(n)), tasks(rows);
      exec.for_each_row(n, CountRow{rows.data()});
      exec.for_each_task(n, [&](int, index_t i) { ++tasks[static_cast<std::size_t>(i)]; });
      CHECK(all_are(rows, 1));
      CHECK(all_are(tasks, 1));
    }
    exec.for_each_row(-1, CountRow{nullptr});
  }
}

TEST_CASE("no two running tasks have the same worker")
{
  for (int threads : thread_counts) {
    Host const exec{{.threads = threads}};
    std::vector<std::atomic<int>> busy(static_cast<std::size_t>(threads));
    std::atomic<int> wrong = 0;
    exec.for_each_task(500, [&](int worker, index_t) {
      if (worker < 0 || worker >= threads) {
        ++wrong;
        return;
      }
      auto& mine = busy[static_cast<std::size_t>(worker)];
      if (mine.exchange(1) != 0) { ++wrong; }
      std::this_thread::yield();
      mine = 0;
    });
    CHECK(wrong == 0);
  }
}

TEST_CASE("a run inside a task is a loop of the same worker")
{
  for (int threads : thread_counts) {
    Host const exec{{.threads = threads}};
    std::vector<int> hits(50 * 20);
    std::atomic<int> wrong = 0;
    exec.for_each_task(50, [&](int outer, index_t i) {
      exec.for_each_task(20, [&](int inner, index_t j) {
        if (inner != outer) { ++wrong; }
        exec.for_each_task(1, [&](int, index_t) { ++hits[static_cast<std::size_t>(i * 20 + j)]; });
      });
    });
    CHECK(wrong == 0);
    CHECK(all_are(hits, 1));
  }
}

TEST_CASE("a run inside a task of another Host leaves the outer one as it was")
{
  for (int threads : {1, 2, 4}) {
    Host const outer{{.threads = threads}}, other{{.threads = 2}};
    std::vector<int> hits(60);
    std::atomic<int> wrong = 0, others = 0;
    outer.for_each_task(20, [&](int worker, index_t i) {
      other.for_each_task(3, [&](int, index_t) { ++others; });
      outer.for_each_task(3, [&](int inner, index_t j) {
        if (inner != worker) { ++wrong; }
        ++hits[static_cast<std::size_t>(i * 3 + j)];
      });
    });
    CHECK(wrong == 0);
    CHECK(others == 60);
    CHECK(all_are(hits, 1));
  }
}

TEST_CASE("Hosts may take turns inside one another, however deep")
{
  Host const a{{.threads = 3}}, b{{.threads = 3}};
  std::atomic<int> tasks = 0;
  a.for_each_task(6, [&](int, index_t) {
    b.for_each_task(6, [&](int, index_t) {
      a.for_each_task(6, [&](int, index_t) { b.for_each_task(6, [&](int, index_t) { ++tasks; }); });
    });
  });
  CHECK(tasks == 6 * 6 * 6 * 6);
  b.for_each_task(6, [&](int, index_t) { ++tasks; });
  CHECK(tasks == 6 * 6 * 6 * 6 + 6);
}

TEST_CASE("threads of the program may share a Host")
{
  for (int threads : thread_counts) {
    Host const exec{{.threads = threads}};
    std::vector<int> one(2000), two(2000);
    auto const work = [&exec](std::vector<int>& hits) {
      for (int repeat = 0; repeat < 50; ++repeat) {
        exec.for_each_row(static_cast<index_t>(hits.size()), CountRow{hits.data()});
      }
    };
    std::thread other([&] { work(one); });
    work(two);
    other.join();
    CHECK(all_are(one, 50));
    CHECK(all_are(two, 50));
  }
}

TEST_CASE("an exception of a functor reaches the caller, and the Host works afterwards")
{
  for (int threads : thread_counts) {
    Host const exec{{.threads = threads}};
    for (index_t bad : {0, 1, 57, 99}) {
      CAPTURE(threads);
      CAPTURE(bad);
      std::string what;
      try {
        exec.for_each_task(100, [&](int, index_t i) {
          if (i == bad) { throw std::runtime_error("row " + std::to_string(i)); }
        });
      } catch (std::runtime_error const& e) {
        what = e.what();
      }
      CHECK(what == "row " + std::to_string(bad));
      std::vector<int> hits(100);
      exec.for_each_row(100, CountRow{hits.data()});
      CHECK(all_are(hits, 1));
    }
    // All tasks throw, nested ones among them: one is reported, and no later run sees another.
    auto const thrower = [](int, index_t) { throw std::runtime_error("all"); };
    CHECK_THROWS_AS(exec.for_each_task(100, thrower), std::runtime_error);
    CHECK_THROWS_AS(exec.for_each_task(1, thrower), std::runtime_error);
    CHECK_THROWS_AS(exec.for_each_task(8, [&](int, index_t) { exec.for_each_task(8, thrower); }),
                    std::runtime_error);
    for (int i = 0; i < 20; ++i) {
      CHECK_NOTHROW(exec.for_each_task(4, [](int, index_t) {}));
    }
  }
}

TEST_CASE("thousands of tiny runs: no task of one is run in another")
{
  for (int threads : thread_counts) {
    Host const exec{{.threads = threads}};
    int const runs = threads <= 4 ? 5000 : 1000;
    bool right     = true;
    for (int r = 0; r < runs; ++r) {
      // On this stack frame only: a worker that came late would write to what is gone.
      std::vector<int> hits(static_cast<std::size_t>(r % 5 + 1));
      exec.for_each_task(r % 5 + 1,
                         [&](int, index_t i) { hits[static_cast<std::size_t>(i)] += r; });
      right = right && all_are(hits, r);
    }
    CHECK(right);
  }
}

TEST_CASE("a Host that is made and dropped leaves no thread waiting")
{
  for (int i = 0; i < 200; ++i) {
    Host const exec{{.threads = 1 + i % 4}};
    if (i % 2 == 0) {
      exec.for_each_task(3, [](int, index_t) {});
    }
  }
}

TEST_CASE("results are the same for any number of threads")
{
  std::vector<double> want;
  for (int threads : thread_counts) {
    Host const exec{{.threads = threads}};
    std::vector<double> got(1000);
    exec.for_each_task(1000, [&](int, index_t i) {
      for (int j = 1; j < 50; ++j) {
        got[static_cast<std::size_t>(i)] += 1.0 / static_cast<double>(i + j);
      }
    });
    if (want.empty()) { want = got; }
    CHECK(got == want);
  }
}

#if defined(__linux__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && \
    !defined(__clang__)
TEST_CASE("more threads than the system starts are refused, and those that started end")
{
  rlimit before{};
  REQUIRE(getrlimit(RLIMIT_AS, &before) == 0);
  rlimit little   = before;
  little.rlim_cur = rlim_t{1} << 30;  // of addresses: room for about a hundred stacks
  REQUIRE(setrlimit(RLIMIT_AS, &little) == 0);
  std::string what;
  try {
    Host const exec{{.threads = 100'000}};
  } catch (moe::ValueError const& e) {
    what = e.what();
  }
  REQUIRE(setrlimit(RLIMIT_AS, &before) == 0);
  CHECK(what.starts_with("moe::Host: threads is 100000, must be at most what the system starts ("));
}
#endif
