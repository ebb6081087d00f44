#pragma once
// Rows of each expert, each expert's followed by slots that belong to nobody, as padding leaves
// them.
#include <moe/exec/host.hpp>
#include <moe/expert/expert_rows.hpp>

#include <vector>

namespace moe::test {

struct GroupedSlots {
  std::vector<Id> counts;
  std::vector<Id> offsets{0};
  bool padded;

  GroupedSlots(std::vector<Id> rows, Id gap) : counts{std::move(rows)}, padded{gap > 0}
  {
    for (Id const n : counts) {
      offsets.push_back(offsets.back() + n + gap);
    }
  }
  [[nodiscard]] index_t experts() const { return static_cast<index_t>(counts.size()); }
  [[nodiscard]] index_t rows() const { return offsets.back(); }
  [[nodiscard]] Id owner(index_t row) const  // -1: nobody
  {
    for (std::size_t e = 0; e < counts.size(); ++e) {
      if (row >= offsets[e] && row < offsets[e] + counts[e]) { return static_cast<Id>(e); }
    }
    return -1;
  }
  [[nodiscard]] RowGroups<Host> view() const
  {
    RowGroups<Host> groups{View<Id const, 1, Host>(offsets.data(), offsets.size()),
                           {},
                           rows(),
                           0,
                           static_cast<Id>(experts())};
    if (padded) { groups.counts = View<Id const, 1, Host>(counts.data(), counts.size()); }
    return groups;
  }
};

}  // namespace moe::test
