#pragma once
// What one rank can check of a collective by itself, before anything is sent. Out of line and of no
// element type, as all checks.
#include <span>

#include <moe/core/error.hpp>

namespace moe {

// Which elements of a buffer go to, or come from, each rank: rank r has the counts[r] elements from
// offsets[r] on. Both (P), in the program's memory on every space: the host knows them.
struct RankBlocks {
  std::span<index_t const> counts, offsets;  // (P)
};

namespace detail {

struct CollectiveCheck {
  Check check;
  index_t ranks;

  // What every communicator refuses (communicator.hpp has the extents).
  void all_gather(auto const& send, auto const& receive) const
  {
    buffers(send, receive);
    parts("receive", receive.size(), "send", send.size());
  }
  void reduce_scatter(auto const& send, auto const& receive) const
  {
    buffers(send, receive);
    parts("send", send.size(), "receive", receive.size());
  }
  void all_to_all(auto const& send, auto const& receive) const
  {
    buffers(send, receive);
    check.equal("receive extent", receive.size(), "send extent", send.size());
    parts("receive", receive.size(), "block", receive.size() / ranks);
  }
  void all_to_all_v(auto const& send,
                    RankBlocks const& send_blocks,
                    auto const& receive,
                    RankBlocks const& receive_blocks) const
  {
    buffers(send, receive);
    blocks("send", send_blocks, send.size());
    blocks("receive", receive_blocks, receive.size());
    blocks_apart(receive_blocks);
  }

  template <class SendT, class ReceiveT>
  void buffers(SendT const& send, ReceiveT const& receive) const
  {
    constexpr std::size_t element = sizeof(typename ReceiveT::value_type);
    check.not_null("send", send);
    check.not_null("receive", receive);
    apart(send.data_handle(),
          static_cast<std::size_t>(send.size()) * element,
          receive.data_handle(),
          static_cast<std::size_t>(receive.size()) * element);
  }

 private:
  // `whole` has a part of n elements for every rank.
  [[gnu::noinline]] void parts(char const* whole,
                               index_t elements,
                               char const* part,
                               index_t n) const
  {
    index_t const must_be = checked_mul(check.operation, part, ranks, n);
    if (elements != must_be) {  // texts only here: collectives of a steady state allocate nothing
      check.fail<ShapeError>(joined({whole, " extent"}),
                             elements,
                             joined({"ranks x ", part, " extent (", text_of(must_be), ")"}));
    }
  }

  // Blocks lie in their buffer.
  [[gnu::noinline]] void blocks(char const* buffer,
                                RankBlocks const& blocks,
                                index_t elements) const
  {
    check.equal(
        FieldName(buffer, " counts"), static_cast<index_t>(blocks.counts.size()), "ranks", ranks);
    check.equal(
        FieldName(buffer, " offsets"), static_cast<index_t>(blocks.offsets.size()), "ranks", ranks);
    for (std::size_t r = 0; r < blocks.counts.size(); ++r) {
      check.at_least(FieldName(buffer, " count"), blocks.counts[r], 0);
      check.at_least(FieldName(buffer, " offset"), blocks.offsets[r], 0);
      check.at_most(FieldName(buffer, " count"), blocks.counts[r], "the buffer's extent", elements);
      check.at_most(FieldName(buffer, " offset"),
                    blocks.offsets[r],
                    "the buffer's extent - count",
                    elements - blocks.counts[r]);
    }
  }

  // No element is written twice. Blocks in the order of ranks, as they nearly always are, cost one
  // look each.
  [[gnu::noinline]] void blocks_apart(RankBlocks const& blocks) const
  {
    auto const overlap = [&](std::size_t a, std::size_t b) {
      return blocks.counts[a] > 0 && blocks.counts[b] > 0 &&
             blocks.offsets[a] < blocks.offsets[b] + blocks.counts[b] &&
             blocks.offsets[b] < blocks.offsets[a] + blocks.counts[a];
    };
    bool in_order = true;
    index_t end   = 0;
    for (std::size_t r = 0; r < blocks.counts.size(); ++r) {
      in_order = in_order && blocks.offsets[r] >= end;
      end      = blocks.offsets[r] + blocks.counts[r];
    }
    if (in_order) { return; }
    for (std::size_t b = 1; b < blocks.counts.size(); ++b) {
      for (std::size_t a = 0; a < b; ++a) {
        if (overlap(a, b)) {
          check.fail<AliasError>(
              "receive blocks",
              joined({"overlapping for ranks ", text_of(a), " and ", text_of(b)}),
              "apart");
        }
      }
    }
  }

  [[gnu::noinline]] void apart(void const* send,
                               std::size_t send_bytes,
                               void const* receive,
                               std::size_t receive_bytes) const
  {
    auto const s = reinterpret_cast<std::uintptr_t>(send);
    auto const r = reinterpret_cast<std::uintptr_t>(receive);
    if (send_bytes > 0 && receive_bytes > 0 && s < r + receive_bytes && r < s + send_bytes) {
      check.fail<AliasError>("receive", "overlapping send", "apart from it");
    }
  }
};

}  // namespace detail
}  // namespace moe
