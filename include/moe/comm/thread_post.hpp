#pragma once
// What one rank of a ThreadGroup brings to one collective: its bytes, and what must agree.
#include <cstddef>
#include <memory>
#include <memory_resource>
#include <new>
#include <utility>
#include <vector>

#include <moe/comm/collective_check.hpp>
#include <moe/comm/thread_state.hpp>

namespace moe::detail {

class StagedBytes {
 public:
  explicit StagedBytes(std::pmr::memory_resource* resource) : resource_{resource} {}
  StagedBytes(StagedBytes&& other) noexcept
      : resource_{other.resource_},
        data_{std::exchange(other.data_, nullptr)},
        capacity_{std::exchange(other.capacity_, 0)}
  {
  }
  StagedBytes& operator=(StagedBytes&&) = delete;
  ~StagedBytes() { release(); }

  // At least `bytes`, of any content; kept for the next time.
  [[nodiscard]] std::byte* grown(std::size_t bytes)
  {
    if (bytes > capacity_) {
      release();
      std::size_t const more = bytes + bytes / 4;
      data_                  = static_cast<std::byte*>(resource_->allocate(more, alignment));
      capacity_              = more;
    }
    return data_;
  }
  [[nodiscard]] std::byte const* data() const { return data_; }

 private:
  void release() noexcept
  {
    if (data_ != nullptr) { resource_->deallocate(data_, capacity_, alignment); }
    data_     = nullptr;
    capacity_ = 0;
  }

  static constexpr std::size_t alignment = 256;
  std::pmr::memory_resource* resource_;
  std::byte* data_      = nullptr;
  std::size_t capacity_ = 0;
};

// What must be the same on all ranks, beside the sequence number.
struct Fingerprint {
  Collective operation      = Collective::none;
  char const* space         = "";       // whose memory the buffers are, where there are some
  char const* element_kind  = "bytes";  // of sums: "signed", "unsigned", "real", "Half", "BFloat16"
  std::size_t element_bytes = 0;
  index_t count             = 0;  // all_to_all_v: 0, its counts are compared pair by pair
};

class ThreadGroup;

// What one rank brings to one collective. Its owner writes it before the meeting, all read it
// after.
struct ThreadPost {
  explicit ThreadPost(std::pmr::memory_resource* resource) : staged{resource} {}

  // all_to_all_v: blocks are staged in the order of the ranks they go to -> the elements to stage.
  index_t set_counts(RankBlocks const& send, RankBlocks const& receive)
  {
    send_counts.assign(send.counts.begin(), send.counts.end());
    receive_counts.assign(receive.counts.begin(), receive.counts.end());
    staged_at.resize(send.counts.size());
    index_t at = 0;
    for (std::size_t r = 0; r < send.counts.size(); ++r) {
      staged_at[r] = at;
      at += send.counts[r];
    }
    return at;
  }

  Fingerprint fingerprint;
  std::uint64_t sequence = 0;
  StagedBytes staged;                                           // on Host
  std::vector<index_t> send_counts, receive_counts, staged_at;  // (P), all_to_all_v
  int color = 0, key = 0;                                       // split
  std::shared_ptr<ThreadGroup> child;                           // split: made by the last to come
  int child_rank = 0;
};

}  // namespace moe::detail
