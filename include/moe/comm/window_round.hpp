#pragma once
// One small collective over a window, as the device does it: every rank stores its part into a slot
// of its own at each peer, and after a signal and a wait each reads its slots. Rounds are counted
// in the window's memory, so that the round of a captured graph is another at each replay.
//
// The two halves of the slots are used in turn. A rank stores into a half again, for round n + 2,
// only after its wait of round n + 1: every peer has then raised its flag for the (n + 1)-th time,
// which in the peer's stream comes after its reads of round n. A rank whose wait has failed does
// not know that of its peers, and stores no more. Its flags may still rise: so a part is taken only
// where its header is of this round and this call, and is zeros where not.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include <moe/comm/thread_sum.hpp>
#include <moe/comm/window.hpp>
#include <moe/core/team.hpp>

namespace moe::detail {

inline constexpr index_t round_piece = 512;  // bytes that a row stores or reads

// What makes calls of two ranks the same: the collective, and the bytes of an element and of a
// part.
struct RoundHeader {
  std::uint64_t round = 0;  // from 1 on
  std::uint64_t call  = 0;
};

struct WindowRound {
  WindowView view;
  std::size_t slot_bytes = 0;  // with the header
  std::uint64_t call     = 0;

  // Two halves of P slots, and two words of this rank's own.
  [[nodiscard]] static std::size_t slot(std::size_t part_bytes)
  {
    return sizeof(RoundHeader) + (part_bytes + 15) / 16 * 16;
  }
  [[nodiscard]] static std::size_t window_bytes(std::size_t slot_bytes, int ranks)
  {
    return 2 * static_cast<std::size_t>(ranks) * slot_bytes + 2 * sizeof(std::uint64_t);
  }

  [[nodiscard]] MOE_HOST_DEVICE std::byte* slot_of(int at, int from, std::uint64_t round) const
  {
    return view.of(at) +
           (round % 2 * static_cast<std::uint64_t>(view.size) + static_cast<std::uint64_t>(from)) *
               slot_bytes;
  }
  [[nodiscard]] MOE_HOST_DEVICE std::byte* part_of(int at, int from, std::uint64_t round) const
  {
    return slot_of(at, from, round) + sizeof(RoundHeader);
  }
  // The last round that was read, which the reads write and the stores look at; the last that was
  // stored, the other way round: so no row looks at what another of its functor writes.
  [[nodiscard]] MOE_HOST_DEVICE std::uint64_t* rounds_read() const
  {
    return reinterpret_cast<std::uint64_t*>(view.of(view.rank) +
                                            2 * static_cast<std::size_t>(view.size) * slot_bytes);
  }
  [[nodiscard]] MOE_HOST_DEVICE std::uint64_t* rounds_stored() const { return rounds_read() + 1; }

  [[nodiscard]] MOE_HOST_DEVICE bool arrived(int from, std::uint64_t round) const
  {
    auto const& header = *reinterpret_cast<RoundHeader const*>(slot_of(view.rank, from, round));
    return !view.failed() && header.round == round && header.call == call;
  }
};
static_assert(std::is_trivially_copyable_v<WindowRound>);

// `from` null: zeros.
template <Team G>
MOE_HOST_DEVICE void copy_piece([[maybe_unused]] G team,
                                std::byte* to,
                                std::byte const* from,
                                index_t bytes)
{
#if defined(__CUDA_ARCH__)
  auto const copy = [&](auto* words_to, auto const* words_from) {
    using Word = std::decay_t<decltype(*words_to)>;
    for (index_t i = team.lane(); i < bytes / static_cast<index_t>(sizeof(Word));
         i += team.size()) {
      words_to[i] = words_from == nullptr ? Word{} : words_from[i];
    }
  };
  auto const ends = reinterpret_cast<std::uintptr_t>(to) | reinterpret_cast<std::uintptr_t>(from) |
                    static_cast<std::uintptr_t>(bytes);
  if (ends % sizeof(std::uint32_t) == 0) {
    copy(reinterpret_cast<std::uint32_t*>(to), reinterpret_cast<std::uint32_t const*>(from));
  } else {
    copy(reinterpret_cast<unsigned char*>(to), reinterpret_cast<unsigned char const*>(from));
  }
#else
  if (from == nullptr) {
    std::memset(to, 0, static_cast<std::size_t>(bytes));
  } else {
    std::memcpy(to, from, static_cast<std::size_t>(bytes));
  }
#endif
}

// Rows of a launch: the pieces of rank 0's part, then of rank 1's, ...
struct RoundPieces {
  index_t part_bytes = 0;  // at least 1
  [[nodiscard]] MOE_HOST_DEVICE index_t per_part() const
  {
    return (part_bytes + round_piece - 1) / round_piece;
  }
  [[nodiscard]] MOE_HOST_DEVICE int rank(index_t row) const
  {
    return static_cast<int>(row / per_part());
  }
  [[nodiscard]] MOE_HOST_DEVICE index_t first(index_t row) const
  {
    return row % per_part() * round_piece;
  }
  [[nodiscard]] MOE_HOST_DEVICE index_t bytes(index_t row) const
  {
    index_t const rest = part_bytes - first(row);
    return rest < round_piece ? rest : round_piece;
  }
};

// Peer p gets the part at from + p * stride; stride 0: all get the same.
struct StorePartRow {
  WindowRound round;
  RoundPieces pieces;
  std::byte const* from = nullptr;
  index_t stride        = 0;

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t row) const
  {
    WindowView const& view = round.view;
    if (view.failed()) { return; }
    std::uint64_t const now = *round.rounds_read() + 1;
    int const peer          = pieces.rank(row);
    index_t const first     = pieces.first(row);
    if (first == 0 && team.lane() == 0) {
      *reinterpret_cast<RoundHeader*>(round.slot_of(peer, view.rank, now)) = {now, round.call};
      if (peer == 0) { *round.rounds_stored() = now; }
    }
    copy_piece(team,
               round.part_of(peer, view.rank, now) + first,
               from + peer * stride + first,
               pieces.bytes(row));
  }
};

// Rank r's part goes to `to` + r * part_bytes.
struct ReadPartRow {
  WindowRound round;
  RoundPieces pieces;
  std::byte* to = nullptr;

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t row) const
  {
    std::uint64_t const now = *round.rounds_stored();
    int const from          = pieces.rank(row);
    index_t const first     = pieces.first(row);
    copy_piece(
        team,
        to + from * pieces.part_bytes + first,
        round.arrived(from, now) ? round.part_of(round.view.rank, from, now) + first : nullptr,
        pieces.bytes(row));
    if (row == 0 && team.lane() == 0) { *round.rounds_read() = now; }
  }
};

// out(i) = sum over ranks of their i, in the order of ranks, as ThreadCommunicator adds.
template <SumElement T>
struct SumRoundRow {
  using S                        = typename SumOf<T>::type;
  static constexpr index_t block = 128;  // elements of a row

  WindowRound round;
  T* out           = nullptr;
  index_t elements = 0;

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t row) const
  {
    WindowView const& view  = round.view;
    std::uint64_t const now = *round.rounds_stored();
    bool all                = true;
    for (int r = 0; r < view.size; ++r) {
      all = all && round.arrived(r, now);
    }
    auto const of = [&](int r) {
      return reinterpret_cast<T const*>(round.part_of(view.rank, r, now));
    };
    index_t const end = elements - row * block < block ? elements : (row + 1) * block;
    for (index_t i = row * block + team.lane(); i < end; i += team.size()) {
      S sum = static_cast<S>(of(0)[i]);
      for (int r = 1; r < view.size; ++r) {
        sum = static_cast<S>(sum + static_cast<S>(of(r)[i]));
      }
      out[i] = all ? static_cast<T>(sum) : T{};
    }
    if (row == 0 && team.lane() == 0) { *round.rounds_read() = now; }
  }
};

}  // namespace moe::detail
