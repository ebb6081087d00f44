#pragma once
// NCCL's own calls, and the communicators that use them on moe::Cuda. A program that includes this
// links moe::nccl.
#include <moe/exec/cuda/nvcc_only.cuh>

#if !__has_include(<nccl.h>)
#error \
    "moe: moe/comm/nccl.cuh needs nccl.h: link moe::nccl, or put NCCL's include folder on the path"
#else

#include <nccl.h>

#include <moe/comm/cuda/ipc_window.cuh>
#include <moe/comm/nccl_communicator.hpp>
#include <moe/exec/cuda.cuh>

#if NCCL_VERSION_CODE < NCCL_VERSION(2, 19, 0)
#error \
    "moe: moe/comm/nccl.cuh needs NCCL 2.19 or newer, which aborts communicators of several threads"
#endif

namespace moe {

struct Nccl {
  using Comm                          = ncclComm_t;
  using UniqueId                      = ncclUniqueId;
  using Result                        = ncclResult_t;
  using Stream                        = cudaStream_t;
  static constexpr Result success     = ncclSuccess;
  static constexpr Result in_progress = ncclInProgress;

  static char const* text(Result result) { return ncclGetErrorString(result); }
  static char const* last_error(Comm comm) { return ncclGetLastError(comm); }
  static int header_version() { return NCCL_VERSION_CODE; }
  static Result version(int* v) { return ncclGetVersion(v); }

  static Result get_unique_id(UniqueId* id) { return ncclGetUniqueId(id); }
  static Result init_rank(Comm* comm, int size, UniqueId const& id, int rank)
  {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking     = 0;
    return ncclCommInitRankConfig(comm, size, id, rank, &config);
  }
  // With the configuration of `comm`.
  static Result split(Comm comm, int color, int key, Comm* group)
  {
    return ncclCommSplit(comm, color, key, group, nullptr);
  }
  static Result async_error(Comm comm, Result* state) { return ncclCommGetAsyncError(comm, state); }
  static Result user_rank(Comm comm, int* rank) { return ncclCommUserRank(comm, rank); }
  static Result count(Comm comm, int* size) { return ncclCommCount(comm, size); }
  static Result finalize(Comm comm) { return ncclCommFinalize(comm); }
  static Result destroy(Comm comm) { return ncclCommDestroy(comm); }
  static Result abort(Comm comm) { return ncclCommAbort(comm); }

  static Result all_reduce_sum(
      void const* from, void* to, std::size_t n, NcclType type, Comm comm, Stream stream)
  {
    return ncclAllReduce(from, to, n, type_of(type), ncclSum, comm, stream);
  }
  static Result all_gather(
      void const* from, void* to, std::size_t n, NcclType type, Comm comm, Stream stream)
  {
    return ncclAllGather(from, to, n, type_of(type), comm, stream);
  }
  static Result reduce_scatter_sum(
      void const* from, void* to, std::size_t n, NcclType type, Comm comm, Stream stream)
  {
    return ncclReduceScatter(from, to, n, type_of(type), ncclSum, comm, stream);
  }
  static Result send(
      void const* from, std::size_t n, NcclType type, int peer, Comm comm, Stream stream)
  {
    return ncclSend(from, n, type_of(type), peer, comm, stream);
  }
  static Result recv(void* to, std::size_t n, NcclType type, int peer, Comm comm, Stream stream)
  {
    return ncclRecv(to, n, type_of(type), peer, comm, stream);
  }
  static Result group_start() { return ncclGroupStart(); }
  static Result group_end() { return ncclGroupEnd(); }

  // Ranks are processes of one host; cuda/nccl_window.cuh has windows through NCCL's device API.
  template <class CommT>
  static Window<Cuda> window(CommT const& comm,
                             Cuda const& exec,
                             std::size_t bytes,
                             WindowOptions const& options)
  {
    return detail::IpcWindow<CommT>::made(comm, exec, bytes, options);
  }

  static Stream stream_of(Cuda const& exec) { return exec.stream(); }
  static void refuse_to_wait(Cuda const& exec, char const* operation)
  {
    if (exec.capturing()) {
      throw StateError(
          operation, "the stream", "being captured into a graph", "free: the host waits for it");
    }
  }
  static bool stream_done(Cuda const& exec)
  {
    cudaError_t const state = cudaStreamQuery(exec.stream());
    if (state != cudaErrorNotReady) {
      MOE_CUDA_TRY(state);
      return true;
    }
    // The runtime records even this, as an error that a later call would find.
    if (cudaPeekAtLastError() == cudaErrorNotReady) { (void)cudaGetLastError(); }
    return false;
  }

 private:
  static constexpr ncclDataType_t type_of(NcclType type)
  {
    constexpr ncclDataType_t types[] = {ncclInt8,
                                        ncclUint8,
                                        ncclInt32,
                                        ncclUint32,
                                        ncclInt64,
                                        ncclUint64,
                                        ncclFloat16,
                                        ncclBfloat16,
                                        ncclFloat32,
                                        ncclFloat64};
    return types[static_cast<int>(type)];
  }
};

using NcclCommunicator    = BasicNcclCommunicator<Nccl>;
using NcclCommunicatorRef = BasicNcclCommunicatorRef<Nccl>;

static_assert(ExchangeCommunicator<NcclCommunicator, Cuda, float> &&
              ExchangeCommunicator<NcclCommunicatorRef, Cuda, BFloat16>);
static_assert(HasWindow<NcclCommunicator, Cuda> && HasWindow<NcclCommunicatorRef, Cuda>);

}  // namespace moe

#endif
