#pragma once
// How many rows go to each rank and come from it, and where they lie in the buffers of both.
#include <vector>

#include <moe/comm/communicator.hpp>

namespace moe {
namespace detail {

// Offsets of consecutive blocks; returns their end.
inline index_t lay_out(std::vector<index_t> const& counts, std::vector<index_t>& offsets)
{
  index_t end = 0;
  offsets.resize(counts.size());
  for (std::size_t r = 0; r < counts.size(); ++r) {
    offsets[r] = end;
    end += counts[r];
  }
  return end;
}

}  // namespace detail

// Known to the host.
struct RowBlocks {
  std::vector<index_t> sent, sent_at;          // (P)
  std::vector<index_t> received, received_at;  // (P)

  RowBlocks() = default;
  explicit RowBlocks(std::size_t ranks)
      : sent(ranks, 0), sent_at(ranks, 0), received(ranks, 0), received_at(ranks, 0)
  {
  }

  [[nodiscard]] RankBlocks out() const { return {sent, sent_at}; }
  [[nodiscard]] RankBlocks in() const { return {received, received_at}; }
  [[nodiscard]] index_t rows_sent() const { return sum(sent); }
  [[nodiscard]] index_t rows_received() const { return sum(received); }

  // Blocks one after the other, on both sides.
  void lay_out()
  {
    detail::lay_out(sent, sent_at);
    detail::lay_out(received, received_at);
  }
  // The same rows, sent from a buffer of their own, or back from one.
  [[nodiscard]] RowBlocks with_packed_sent() const
  {
    RowBlocks packed = *this;
    detail::lay_out(sent, packed.sent_at);
    return packed;
  }
  [[nodiscard]] RowBlocks with_packed_received() const
  {
    RowBlocks packed = *this;
    detail::lay_out(received, packed.received_at);
    return packed;
  }

 private:
  static index_t sum(std::vector<index_t> const& counts)
  {
    index_t all = 0;
    for (index_t const n : counts) {
      all += n;
    }
    return all;
  }
};

namespace detail {

// For one side: within the block of rank r, which begins at begin(r) (P), the rows of the chunks
// lie one after the other.
inline void lay_out_chunks(std::vector<RowBlocks>& chunks,
                           std::vector<index_t> RowBlocks::* counts,
                           std::vector<index_t> RowBlocks::* offsets,
                           std::vector<index_t> const& begin)
{
  for (std::size_t r = 0; r < begin.size(); ++r) {
    index_t at = begin[r];
    for (RowBlocks& chunk : chunks) {
      (chunk.*offsets)[r] = at;
      at += (chunk.*counts)[r];
    }
  }
}

}  // namespace detail
}  // namespace moe
