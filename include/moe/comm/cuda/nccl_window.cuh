#pragma once
// Windows through NCCL's device API: NcclDeviceCommunicator is an NcclCommunicator whose windows
// are NCCL's symmetric memory, for GPUs that reach each other's (one load-store-accessible team).
// Multicast is never asked for; NCCL_NVLS_ENABLE=0 keeps NCCL's own collectives from it too.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <moe/comm/nccl.cuh>

#if NCCL_VERSION_CODE < NCCL_VERSION(2, 28, 0) || !__has_include(<nccl_device.h>)
#error "moe: moe/comm/cuda/nccl_window.cuh needs NCCL 2.28 or newer with its nccl_device.h"
#else

// It has parameters that it does not use.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
#include <nccl_device.h>
#pragma GCC diagnostic pop

#include <memory>
#include <utility>

#include <moe/comm/cuda/shared_window.cuh>

namespace moe {
namespace detail {

// pointers (P): ranks of the load-store-accessible team, which is the whole world.
template <int threads>
__global__ void __launch_bounds__(threads)
    nccl_pointers_kernel(ncclWindow_t const window, std::byte** const pointers, int const size)
{
  for (int r = static_cast<int>(threadIdx.x); r < size; r += threads) {
    pointers[r] = static_cast<std::byte*>(ncclGetLsaPointer(window, 0, r));
  }
}

template <class CommT>
class NcclWindow final : public SharedWindow<CommT> {
  using Base = SharedWindow<CommT>;

 public:
  // `options.deadline` is set. A communicator that has no handle of NCCL's is alone.
  [[nodiscard]] static Window<Cuda> made(CommT const& comm,
                                         Cuda const& exec,
                                         std::size_t bytes,
                                         WindowOptions const& options)
  {
    Check const check{"moe::NcclDeviceCommunicator::window", comm.rank()};
    check_window(check, bytes, options);
    refuse_window_in_capture(exec, check);
    if (comm.handle() == nullptr) { return SelfWindow<Cuda>::made(exec, bytes, options); }
    auto window = std::make_unique<NcclWindow>(comm, exec, options);
    window->open(exec, check, bytes, options.channels);
    return Window<Cuda>(std::move(window));
  }
  NcclWindow(CommT const& comm, Cuda const& exec, WindowOptions const& options)
      : Base{comm, exec, options.deadline}, made_{std::make_shared<Made>()}
  {
  }
  ~NcclWindow() override
  {
    bool const nobody = !known_ || this->end([this] {
      (void)ncclCommWindowDeregister(this->comm().handle(), made_->window);
    });
    if (nobody && data_ != nullptr) { (void)ncclMemFree(data_); }
  }

 private:
  // Where NCCL writes, possibly after a deadline.
  struct Made {
    ncclWindow_t window = nullptr;
    ncclDevComm_t devices{};
  };

  void open(Cuda const& exec, Check const& check, std::size_t bytes, int channels)
  {
    auto const& comm = this->comm();
    int const P      = comm.size();
    wait_for_ranks(exec, comm);  // what is made waits for the stream
    WindowLayout const layout(bytes, channels, P);
    WindowCard mine{.bytes = bytes, .channels = static_cast<std::uint64_t>(channels)};
    std::exception_ptr refused;
    std::size_t const registered = (layout.total + NCCL_WIN_REQUIRED_ALIGNMENT - 1) /
                                   NCCL_WIN_REQUIRED_ALIGNMENT * NCCL_WIN_REQUIRED_ALIGNMENT;
    try {
      ncclResult_t const result = ncclMemAlloc(&data_, registered);
      if (result != ncclSuccess) {
        check.fail<OutOfMemoryError>(
            "bytes", registered, joined({"what ncclMemAlloc can give: ", text(result)}));
      }
      this->storage.prepare(exec, static_cast<std::byte*>(data_), layout, P);
      mine.made = 1;
    } catch (Error const&) {
      refused = std::current_exception();  // after the others have been told
    }
    auto const cards = gather_to_host(comm, exec, mine);
    if (refused) { std::rethrow_exception(refused); }
    compare_window_cards(check.operation, cards);

    known_                                = true;
    ncclDevCommRequirements_t const needs = requirements();
    settle(check, "ncclDevCommCreate", [&] {
      return ncclDevCommCreate(comm.handle(), &needs, &made_->devices);
    });
    ncclTeam const team = ncclTeamLsa(made_->devices);
    settle(check, "ncclDevCommDestroy", [&] {
      return ncclDevCommDestroy(comm.handle(), &made_->devices);
    });
    if (team.nRanks != P || team.rank != comm.rank()) {  // on every rank
      known_ = false;
      check.fail<StateError>("ranks that reach each other's memory",
                             team.nRanks,
                             joined({"all of the communicator (", text_of(P), ")"}));
    }
    settle(check, "ncclCommWindowRegister", [&] {
      return ncclCommWindowRegister(
          comm.handle(), data_, registered, &made_->window, NCCL_WIN_COLL_SYMMETRIC);
    });
    if (made_->window == nullptr) {
      check.fail<StateError>("the window that NCCL registered", "null", "symmetric memory");
    }
    this->place(comm.rank(), P, bytes, channels);
    constexpr int threads = 32;
    launch(&nccl_pointers_kernel<threads>,
           "moe::NcclDeviceCommunicator::window",
           dim3(1),
           dim3(threads),
           0,
           exec.stream(),
           made_->window,
           const_cast<std::byte**>(this->view.memory),
           P);
    exec.synchronize();
  }

  static ncclDevCommRequirements_t requirements()
  {
#if defined(NCCL_DEV_COMM_REQUIREMENTS_INITIALIZER)
    return NCCL_DEV_COMM_REQUIREMENTS_INITIALIZER;
#else
    return {};  // no barriers, no multicast
#endif
  }
  static char const* text(ncclResult_t result) { return ncclGetErrorString(result); }

  // Until the call is done, which a communicator of the library's does not wait for. These calls
  // may say success when they have only been accepted; the communicator knows (NCCL 2.28).
  template <class F>
  void settle(Check const& check, char const* name, F const& call)
  {
    NcclPause const pause(this->deadline());
    ncclComm_t const comm = this->comm().handle();
    ncclResult_t result   = call();
    if (result == ncclSuccess) { result = ncclInProgress; }
    while (result == ncclInProgress) {
      ncclResult_t const state = ncclCommGetAsyncError(comm, &result);
      if (state != ncclSuccess) { result = state; }
      if (result == ncclInProgress && !pause()) { break; }
    }
    if (result == ncclSuccess) { return; }
    if (result == ncclInProgress) { keep_for_ever(made_); }
    char const* const more = ncclGetLastError(comm);
    throw CommunicationError(check.operation,
                             name,
                             joined({text(result), ": ", more != nullptr ? more : ""}),
                             "done without errors within the deadline",
                             check.rank,
                             0);
  }

  std::shared_ptr<Made> made_;
  void* data_ = nullptr;
  bool known_ = false;  // peers may have mapped this rank's memory
};

}  // namespace detail

// NCCL's calls, with windows through its device API.
struct NcclWithDeviceApi : Nccl {
  template <class CommT>
  static Window<Cuda> window(CommT const& comm,
                             Cuda const& exec,
                             std::size_t bytes,
                             WindowOptions const& options)
  {
    return detail::NcclWindow<CommT>::made(comm, exec, bytes, options);
  }
};

using NcclDeviceCommunicator    = BasicNcclCommunicator<NcclWithDeviceApi>;
using NcclDeviceCommunicatorRef = BasicNcclCommunicatorRef<NcclWithDeviceApi>;

static_assert(HasWindow<NcclDeviceCommunicator, Cuda> &&
              HasWindow<NcclDeviceCommunicatorRef, Cuda>);

}  // namespace moe

#endif
