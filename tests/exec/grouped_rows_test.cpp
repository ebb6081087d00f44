#include <moe/exec/host/grouped_rows.hpp>

#include "support/grouped_slots.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <memory>
#include <vector>

using moe::Host, moe::Id, moe::index_t;
using moe::test::GroupedSlots;

namespace {

// How often each row was visited, and as whose; -2 when as two experts'.
struct Visits {
  std::vector<int> count;
  std::vector<index_t> expert;
};

Visits visit(Host const& exec, GroupedSlots const& slots, moe::RowGroups<Host> const& groups)
{
  auto const n = static_cast<std::size_t>(slots.rows());
  std::vector<std::atomic<int>> count(n);
  std::vector<std::atomic<index_t>> expert(n);
  for (auto& e : expert) {
    e = -1;
  }
  moe::for_each_grouped_row(exec, groups, [&](moe::SerialTeam, index_t e, index_t r) {
    auto const at = static_cast<std::size_t>(r);
    ++count.at(at);
    expert.at(at) = expert.at(at) == -1 ? e : -2;
  });
  return {{count.begin(), count.end()}, {expert.begin(), expert.end()}};
}

std::vector<std::vector<Id>> const layouts{{},
                                           {0},
                                           {1},
                                           {0, 0, 0},
                                           {0, 3, 0, 0, 40, 1, 0},
                                           {5, 5, 5, 5},
                                           {0, 0, 1000},
                                           {1000, 0, 1},
                                           std::vector<Id>(300, 1)};

}  // namespace

TEST_CASE("every row of every expert once, with its expert; slots of nobody never")
{
  for (int const threads : {1, 2, 5}) {
    Host const exec{{.threads = threads}};
    for (auto const& counts : layouts) {
      for (Id const gap : {0, 3}) {
        GroupedSlots const slots(counts, gap);
        auto const seen = visit(exec, slots, slots.view());
        for (index_t r = 0; r < slots.rows(); ++r) {
          CAPTURE(r);
          auto const at  = static_cast<std::size_t>(r);
          Id const owner = slots.owner(r);
          if (seen.count[at] != (owner < 0 ? 0 : 1) || seen.expert[at] != owner) {
            FAIL_CHECK(threads << " threads, " << counts.size() << " experts, gap " << gap);
          }
        }
      }
    }
  }
}

TEST_CASE("a range of experts: their rows alone, at absolute places")
{
  Host const exec{{.threads = 2}};
  for (Id const gap : {0, 3}) {
    GroupedSlots const slots({4, 0, 7, 1, 0, 60}, gap);
    for (Id first = 0; first <= 6; ++first) {
      for (Id last = first; last <= 6; ++last) {
        auto const seen = visit(exec, slots, slots.view().only(first, last));
        for (index_t r = 0; r < slots.rows(); ++r) {
          Id const owner    = slots.owner(r);
          bool const wanted = owner >= first && owner < last;
          CHECK(seen.count[static_cast<std::size_t>(r)] == (wanted ? 1 : 0));
          CHECK(seen.expert[static_cast<std::size_t>(r)] == (wanted ? owner : -1));
        }
      }
    }
  }
}
