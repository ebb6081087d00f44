#pragma once
// The windows that a OneSidedExchange has made, which passes take in turn, and what one pass has of
// them.
#include <atomic>
#include <limits>
#include <memory>
#include <vector>

#include <moe/dispatch/dispatcher.hpp>
#include <moe/dispatch/expert_partition.hpp>
#include <moe/dispatch/one_sided_window.hpp>
#include <moe/dispatch/overlap.hpp>

namespace moe::detail {

// Channels of a window. Chunks that are under way at once have buffers, and channels, of their own,
// as Overlap says.
struct OneSidedChannel {
  enum : int {
    ready,
    rows_came,
    rows_home    = rows_came + chunk_buffers,
    weights_home = rows_home + chunk_buffers,
    count
  };
};

// A handle: copies are of the same slots.
template <class ExecT>
class OneSidedSlots {
  using Slot = OneSidedSlot<ExecT>;

 public:
  // How many there are by now.
  [[nodiscard]] std::size_t size() const { return shared_->slots.size(); }

  // One that no trip has, or a new one: collective then.
  template <class CommT>
  [[nodiscard]] std::shared_ptr<Slot> take(ExecT const& exec,
                                           CommT const& comm,
                                           Check const& check,
                                           OneSidedLayout const& layout,
                                           WindowOptions const& options) const
  {
    int first = -1;
    shared_->rank.compare_exchange_strong(first, comm.rank());
    check.that<StateError>(first == -1 || first == comm.rank(),
                           "the exchange's rank",
                           first,
                           "this one: every rank makes an exchange of its own");
    for (auto const& slot : shared_->slots) {
      if (slot.use_count() == 1 && slot->layout == layout) { return slot; }
    }
    index_t const largest = std::numeric_limits<Id>::max();
    check.at_most("ranks x tokens", layout.ranks * layout.tokens, "the largest 32-bit id", largest);
    check.at_most(
        "ranks x choices", layout.ranks * layout.choices, "the largest 32-bit id", largest);
    index_t const here = experts_of_rank(layout.experts, comm.size(), comm.rank()).count;
    shared_->slots.push_back(std::make_shared<Slot>(exec, comm, layout, here, options));
    return shared_->slots.back();
  }

 private:
  struct Shared {
    std::vector<std::shared_ptr<Slot>> slots;
    std::atomic<int> rank{-1};  // of the first that used it
  };
  std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
};

// What a batch is worked out into, on the device.
template <class T, class ExecT, class SpaceT>
struct OneSidedTrip {
  static_assert(std::same_as<SpaceT, ExecT>,
                "moe::OneSidedExchange: the space of its windows is not that of the layer's call");
  std::shared_ptr<OneSidedSlot<ExecT>> slot;
  index_t chunks  = 1;
  index_t choices = 0;  // A

  // In one chunk nothing comes between the stores of rows and the wait for the peers', so the wait
  // goes with them. In several it is on another lane.
  [[nodiscard]] bool waits_with_stores() const { return chunks == 1; }
  [[nodiscard]] index_t rows() const { return slot->arrived_at.extent(0); }
  [[nodiscard]] RowGroups<ExecT> groups() const
  {
    return {slot->offsets.const_view(), {}, rows(), 0, static_cast<Id>(slot->experts())};
  }
  [[nodiscard]] RowGroups<ExecT> groups(int c) const
  {
    auto const some = experts_of_chunk(slot->experts(), chunks, c);
    return groups().only(static_cast<Id>(some.first), static_cast<Id>(some.first + some.count));
  }
};

}  // namespace moe::detail
