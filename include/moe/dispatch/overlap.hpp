#pragma once
// Communication beside computation. A batch goes in chunks: while the experts of one chunk work,
// the rows of the next are on their way to theirs, and the outputs of the last on theirs home.
#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include <moe/exec/execution_space.hpp>

namespace moe::detail {

// The steps of chunk c, each given the handle that it works on.
template <class Pack, class Send, class Work, class PackBack, class SendBack>
struct ChunkSteps {
  Pack pack;           // rows that leave, into a buffer
  Send send;           // to the experts
  Work work;           // experts
  PackBack pack_back;  // their outputs, into a buffer
  SendBack send_back;  // to the tokens
};
template <class... Steps>
ChunkSteps(Steps...) -> ChunkSteps<Steps...>;

// Buffers of packed rows are double: chunk c uses number c % 2.
inline constexpr int chunk_buffers = 2;

// A handle for work that may come after what the others have.
template <class ExecT>
[[nodiscard]] ExecT late_lane(ExecT const& exec)
{
  if constexpr (requires { exec.late_lane(); }) { return exec.late_lane(); }
  return exec.lane(2);
}

// Experts work on the caller's handle and communication on a lane of it; packing between the
// experts' chunks, at the whole GPU's speed, unless it is itself what sends, which takes as long as
// the wire does and has a lane too. Nothing waits for a device; all is ordered by events, so it
// captures. One chunk is all on the caller's handle.
template <class ExecT>
class Overlap {
 public:
  using Mark = decltype(std::declval<ExecT const&>().mark());

  Overlap(ExecT const& exec, int chunks, bool pack_sends)
      : chunks_{chunks},
        beside_{chunks > 1 && pack_sends},
        experts_{exec},
        wire_{chunks > 1 ? exec.lane(0) : exec},
        packing_{beside_ ? exec.lane(1) : exec}
  {
    if (chunks_ == 1) { return; }
    auto const before = experts_.mark();  // inputs are ready, buffers are allocated
    wire_.wait(before);
    if (beside_) { packing_.wait(before); }
  }
  static void make_lanes(ExecT const& exec, int chunks)
  {
    if (chunks > 1) {
      (void)exec.lane(1);
      (void)late_lane(exec);
    }
  }
  Overlap(Overlap const&)            = delete;
  Overlap& operator=(Overlap const&) = delete;
  // What follows on the caller's handle, such as giving memory back, comes after the lanes; also
  // where a step threw.
  ~Overlap()
  {
    try {
      join();
    } catch (...) {  // the device is lost, and said so where it was
    }
  }
  void join()
  {
    if (chunks_ == 1 || joined_) { return; }
    joined_ = true;
    if (beside_) { experts_.wait(packing_.mark()); }
    experts_.wait(wire_.mark());
  }

  // Of several chunks, when the experts have worked on each.
  template <class StepsT>
  std::vector<Mark> run(StepsT const& steps)
  {
    std::vector<Mark> worked;
    if (chunks_ == 1) {
      steps.pack(experts_, 0);
      steps.send(experts_, 0);
      steps.work(0);
      steps.pack_back(experts_, 0);
      steps.send_back(experts_, 0);
      return worked;
    }
    worked.reserve(static_cast<std::size_t>(chunks_));
    std::optional<Mark> arrived[chunk_buffers], returned[chunk_buffers];
    auto const go = [&](int c) {
      auto& mine = arrived[c % chunk_buffers];
      if (mine) { packing_.wait(*mine); }  // the chunk before has left the buffer
      steps.pack(packing_, c);
      wire_.wait(packing_.mark());
      steps.send(wire_, c);
      mine.emplace(wire_.mark());
    };
    auto const come_back = [&](int c) {
      auto& mine = returned[c % chunk_buffers];
      if (mine) { packing_.wait(*mine); }
      steps.pack_back(packing_, c);
      wire_.wait(packing_.mark());
      steps.send_back(wire_, c);
      mine.emplace(wire_.mark());
    };
    for (int c = 0; c < std::min(chunks_, chunk_buffers); ++c) {
      go(c);
    }
    for (int c = 0; c < chunks_; ++c) {
      experts_.wait(*arrived[c % chunk_buffers]);
      steps.work(c);
      worked.push_back(experts_.mark());
      // First what experts wait for, then what they made.
      if (c + chunk_buffers < chunks_) { go(c + chunk_buffers); }
      if (beside_) { packing_.wait(worked.back()); }
      come_back(c);
    }
    join();
    return worked;
  }

 private:
  int chunks_;
  bool beside_;  // packing is
  ExecT experts_, wire_, packing_;
  bool joined_ = false;
};

// Experts' work on chunks that no rank waits for, f(handle, chunk): after that which some wait for,
// and beside it, so that the experts are not without work while rows are on their way. Enqueued
// after everything that may be refused.
template <class ExecT, class F>
void when_worked(ExecT const& exec,
                 std::vector<typename Overlap<ExecT>::Mark> const& worked,
                 F const& f)
{
  struct Joined {
    ~Joined()
    {
      try {
        exec.wait(lane.mark());
      } catch (...) {  // the device is lost, and said so where it was
      }
    }
    ExecT const& exec;
    ExecT lane;
  };
  Joined const joined{exec, late_lane(exec)};
  for (std::size_t c = 0; c < worked.size(); ++c) {
    joined.lane.wait(worked[c]);
    f(joined.lane, static_cast<int>(c));
  }
}

}  // namespace moe::detail
