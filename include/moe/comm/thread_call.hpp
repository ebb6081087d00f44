#pragma once
// One rank's part in one collective of a ThreadGroup, on a space: where it stages what it sends,
// and how it reads what the others have staged.
#include <moe/comm/thread_group.hpp>
#include <moe/comm/thread_sum.hpp>

namespace moe::detail {

// A space that ThreadCommunicator works on has a ThreadCall:
//   space                  its name, on which all ranks must agree
//   refuse(exec, check)    throws what keeps a collective from being made, before any work
//   stage(bytes)           where this rank puts the bytes that the others will read
//   meet()                 all have come and agree; reads below see what all staged before
//   read(to, peer, from, bytes)    to = the peer's staged bytes, `from` on
//   sum(first, x)          x (n): x(i) = sum over ranks of their staged element first + i
// All but meet() is in the stream order of `exec`. Later calls of the group do not overtake reads.
template <class ExecT>
class ThreadCall {
  static_assert(!std::same_as<ExecT, ExecT>,
                "moe::ThreadCommunicator: this space has no moe::detail::ThreadCall; that of "
                "moe::Cuda is in <moe/comm/cuda/thread_call.cuh>, which <moe/moe.cuh> includes");
};

template <>
class ThreadCall<Host> : public ThreadGroup::Call {
 public:
  static constexpr char const* space = "Host";
  static void refuse(Host const&, Check const&) {}

  ThreadCall(Host const& exec, ThreadGroup& group, int rank, Fingerprint const& fingerprint)
      : Call{group, rank, fingerprint}, exec_{exec}
  {
  }

  [[nodiscard]] std::byte* stage(std::size_t bytes)
  {
    try {
      return mine().staged.grown(bytes);
    } catch (std::bad_alloc const&) {
      throw OutOfMemoryError(name_of(mine().fingerprint.operation),
                             "staged bytes",
                             text_of(bytes),
                             "what the world's memory resource can give",
                             world_rank());
    }
  }
  void read(void* to, int peer, std::size_t from, std::size_t bytes) const
  {
    exec_.copy(to, of(peer).staged.data() + from, bytes);
  }
  template <SumElement T>
  void sum(index_t first, View<T, 1, Host> x) const
  {
    sum_in_order(*this, first, x);
  }

 private:
  Host const& exec_;
};

}  // namespace moe::detail
