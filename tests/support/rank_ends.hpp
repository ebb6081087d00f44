#pragma once
// How each rank of a world ended, and sequences of collectives that check their results.
#include <moe/comm/thread_world.hpp>

#include <chrono>
#include <cstdint>
#include <exception>
#include <string>
#include <vector>

namespace moe::test {

struct RankEnd {
  enum Kind { returned, communication, timeout, other } kind = returned;
  std::string operation, text;
  std::uint64_t sequence = 0;
  int rank               = -1;
  std::vector<int> missing;
  friend bool operator==(RankEnd const&, RankEnd const&) = default;
};

inline RankEnd end_of(std::exception_ptr const& e)
{
  try {
    if (e) { std::rethrow_exception(e); }
    return {};
  } catch (TimeoutError const& t) {
    return {RankEnd::timeout, t.operation, t.what(), t.sequence, t.rank, t.missing};
  } catch (CommunicationError const& c) {
    return {RankEnd::communication, c.operation, c.what(), c.sequence, c.rank, {}};
  } catch (std::exception const& o) {
    return {RankEnd::other, "", o.what(), 0, -1, {}};
  } catch (...) {
    return {RankEnd::other, "", "of no known type", 0, -1, {}};
  }
}

struct WorldEnd {
  std::vector<RankEnd> ranks;  // (P)
  RankEnd thrown;              // by run()
  double seconds = 0;
};

// world.run(f), with the end of each rank.
template <class F>
WorldEnd run_to_end(ThreadWorld const& world, F const& f)
{
  WorldEnd end;
  end.ranks.resize(static_cast<std::size_t>(world.size()));
  auto const start = std::chrono::steady_clock::now();
  try {
    world.run([&](ThreadCommunicator const& comm) {
      try {
        f(comm);
      } catch (...) {
        end.ranks[static_cast<std::size_t>(comm.rank())] = end_of(std::current_exception());
        throw;
      }
    });
  } catch (...) {
    end.thrown = end_of(std::current_exception());
  }
  end.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return end;
}

template <class T>
View<T, 1, Host> as_view(std::vector<T>& v)
{
  return View<T, 1, Host>(v.data(), v.size());
}
template <class T>
View<T const, 1, Host> as_view(std::vector<T> const& v)
{
  return View<T const, 1, Host>(v.data(), v.size());
}

// Counts of an all-to-all-v and the offsets of packed blocks.
struct Counts {
  explicit Counts(std::vector<index_t> n) : counts{std::move(n)}
  {
    for (index_t const c : counts) {
      offsets.push_back(total);
      total += c;
    }
  }
  [[nodiscard]] RankBlocks blocks() const { return {counts, offsets}; }
  std::vector<index_t> counts, offsets;
  index_t total = 0;
};

}  // namespace moe::test
