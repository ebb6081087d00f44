#pragma once
// What windows of ranks that are processes have in common: every rank tells the others what it has
// made, and nobody returns memory before all have let go of it.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <cstdint>
#include <exception>
#include <string>
#include <utility>
#include <vector>

#include <moe/comm/cuda/window.cuh>
#include <moe/core/tensor.hpp>

namespace moe::detail {

// Of every rank, in their order; the host waits for it, as long as the communicator lets it.
template <class T, class CommT>
std::vector<T> gather_to_host(CommT const& comm, Cuda const& exec, T const& mine)
{
  auto const P = static_cast<std::size_t>(comm.size());
  Tensor<std::byte, 1, Cuda> send(exec, sizeof(T)), receive(exec, P * sizeof(T));
  exec.copy_from_host(send.view().data_handle(), &mine, sizeof(T));
  comm.all_gather(exec, send.const_view(), receive.view());
  if constexpr (requires { comm.wait(exec); }) { comm.wait(exec); }
  std::vector<T> all(P);
  exec.copy_to_host(all.data(), receive.view().data_handle(), P * sizeof(T));
  return all;
}

// What must agree, and whether the rank could do its part.
struct WindowCard {
  std::uint64_t bytes = 0, channels = 0;
  std::uint64_t made = 0;
};

// The same on all ranks, so that all refuse.
template <class CardT>
void compare_window_cards(char const* operation, std::vector<CardT> const& cards)
{
  for (std::size_t r = 0; r < cards.size(); ++r) {
    auto const refuse = [&](char const* what, std::string const& was, std::string const& must_be) {
      int const rank = static_cast<int>(r);
      throw CommunicationError(
          operation, joined({what, " of rank ", text_of(rank)}), was, must_be, rank, 0);
    };
    auto const same = [&](char const* what, std::uint64_t mine, std::uint64_t first) {
      if (mine != first) {
        refuse(what, text_of(mine), joined({text_of(first), ", as of rank 0"}));
      }
    };
    same("bytes", cards[r].bytes, cards[0].bytes);
    same("channels", cards[r].channels, cards[0].channels);
    if (cards[r].made == 0) { refuse("memory", "not made", "made: the rank's own error says why"); }
  }
}

// A window whose memory peers have mapped. Its end is a collective: all ranks meet when their
// streams have done what they had to do with it, let go, meet again, and then return their memory.
// Where that cannot be, after a failure or when this rank leaves by an exception, the memory stays
// until the process ends.
template <class CommT>
class SharedWindow : protected CudaWindowStorage, public CudaWindow {
 public:
  void check() override
  {
    if constexpr (requires { comm_.check(); }) { comm_.check(); }
    CudaWindow::check();
  }

 protected:
  SharedWindow(CommT const& comm, Cuda const& exec, std::chrono::milliseconds deadline)
      : CudaWindow{exec, storage, deadline}, comm_{comm}
  {
    world_rank = comm_.rank();
  }
  [[nodiscard]] CommT const& comm() const { return comm_; }

  // let_go() unmaps peers' memory; a derived class calls it in its destructor. -> whether the
  // memory can be returned
  template <class F>
  bool end(F const& let_go) noexcept
  {
    try {
      if (std::uncaught_exceptions() == exceptions_) {
        check();
        (void)gather_to_host(comm_, last(), char{0});
        let_go();
        (void)gather_to_host(comm_, last(), char{0});
        return true;
      }
    } catch (...) {  // a peer has failed or does not come
    }
    storage.keep();
    return false;
  }

 private:
  CommT comm_;
  int exceptions_ = std::uncaught_exceptions();
};

}  // namespace moe::detail
