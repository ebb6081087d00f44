#pragma once
// NCCL's sends, as its users write them, and its all-to-all, for comm.cu.
#include <map>
#include <vector>

#include <nccl.h>

#include "comm_ways.cuh"

namespace moe_bench {

inline void nccl_try(ncclResult_t result)
{
  if (result != ncclSuccess) {
    throw moe::StateError("comm", "NCCL", ncclGetErrorString(result), "success");
  }
}

// Communicators of all GPUs of this process, made once for each number of ranks and kept.
inline std::vector<ncclComm_t> const& nccl_world(int P)
{
  static std::map<int, std::vector<ncclComm_t>> worlds;
  auto& world = worlds[P];
  if (world.empty()) {
    std::vector<ncclComm_t> made(static_cast<std::size_t>(P));
    nccl_try(ncclCommInitAll(made.data(), P, nullptr));
    world = made;
  }
  return world;
}

class NcclWay {
 public:
  static constexpr int moves = 1;
  static void prepare(int P) { (void)nccl_world(P); }  // before ranks are threads
  NcclWay(ThreadCommunicator const& comm, Buffers& buffers)
      : buffers_{buffers}, nccl_{nccl_world(comm.size())[static_cast<std::size_t>(comm.rank())]}
  {
  }

 protected:
  Buffers& buffers_;
  ncclComm_t nccl_;
};

class NcclSends : public NcclWay {
 public:
  using NcclWay::NcclWay;
  void operator()() const
  {
    auto const n = static_cast<std::size_t>(buffers_.part);
    nccl_try(ncclGroupStart());
    for (int r = 0; r < buffers_.P; ++r) {
      nccl_try(ncclSend(buffers_.send.const_view().data_handle() + r * buffers_.part,
                        n,
                        ncclInt8,
                        r,
                        nccl_,
                        buffers_.exec.stream()));
      nccl_try(ncclRecv(buffers_.receive.view().data_handle() + r * buffers_.part,
                        n,
                        ncclInt8,
                        r,
                        nccl_,
                        buffers_.exec.stream()));
    }
    nccl_try(ncclGroupEnd());
  }
};

#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 28, 0)
class NcclAllToAll : public NcclWay {
 public:
  using NcclWay::NcclWay;
  void operator()() const
  {
    nccl_try(ncclAlltoAll(buffers_.send.const_view().data_handle(),
                          buffers_.receive.view().data_handle(),
                          static_cast<std::size_t>(buffers_.part),
                          ncclInt8,
                          nccl_,
                          buffers_.exec.stream()));
  }
};
#endif

}  // namespace moe_bench
