#pragma once
// Windows of ranks that are processes of one host, with a GPU each or sharing one: cudaMalloc's
// memory, opened by each peer through CUDA IPC. Processes that share a GPU take turns on it, so
// that a wait takes milliseconds there.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <cstdint>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <moe/comm/cuda/shared_window.cuh>

namespace moe::detail {

struct IpcCard : WindowCard {
  std::uint64_t host    = 0;  // of this boot of it
  std::uint64_t process = 0;
  std::byte* data       = nullptr;
  int device            = 0;
  cudaIpcMemHandle_t handle{};
};

inline std::uint64_t ipc_host()
{
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string id;
  std::getline(file, id);
  std::uint64_t hash = 14695981039346656037ULL;  // FNV-1a
  for (char const c : id) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
  }
  return hash;
}
// Not the process's id: containers of one host number theirs apart.
inline std::uint64_t ipc_process()
{
  static std::uint64_t const token = [] {
    std::random_device random;
    return (std::uint64_t{random()} << 32) ^ random();
  }();
  return token;
}

template <class CommT>
class IpcWindow final : public SharedWindow<CommT> {
  using Base = SharedWindow<CommT>;

 public:
  // `options.deadline` is set.
  [[nodiscard]] static Window<Cuda> made(CommT const& comm,
                                         Cuda const& exec,
                                         std::size_t bytes,
                                         WindowOptions const& options)
  {
    if (comm.size() == 1) { return SelfWindow<Cuda>::made(exec, bytes, options); }
    Check const check{"moe::NcclCommunicator::window", comm.rank()};
    check_window(check, bytes, options);
    refuse_window_in_capture(exec, check);
    auto window = std::make_unique<IpcWindow>(comm, exec, options);
    window->open(exec, check, bytes, options.channels);
    return Window<Cuda>(std::move(window));
  }
  IpcWindow(CommT const& comm, Cuda const& exec, WindowOptions const& options)
      : Base{comm, exec, options.deadline}
  {
  }
  ~IpcWindow() override
  {
    if (known_) {
      (void)this->end([this] { close(); });
    }
  }

 private:
  void open(Cuda const& exec, Check const& check, std::size_t bytes, int channels)
  {
    auto const& comm = this->comm();
    int const P      = comm.size();
    wait_for_ranks(exec, comm);  // what is made waits for the stream
    IpcCard mine;
    mine.bytes    = bytes;
    mine.channels = static_cast<std::uint64_t>(channels);
    mine.host     = ipc_host();
    mine.process  = ipc_process();
    mine.device   = exec.device();
    std::exception_ptr refused;
    try {
      WindowLayout layout(bytes, channels, P);
      // Smaller ones share a block of the driver's with other memory, all of which peers would see.
      constexpr std::size_t block = std::size_t{2} << 20;
      layout.total                = (layout.total + block - 1) / block * block;
      this->storage.make(exec, check, layout, P);
      mine.data = this->storage.data();
      MOE_CUDA_TRY(cudaIpcGetMemHandle(&mine.handle, mine.data));
      mine.made = 1;
    } catch (Error const&) {
      refused = std::current_exception();  // after the others have been told
    }
    auto const cards = gather_to_host(comm, exec, mine);
    if (refused) { std::rethrow_exception(refused); }
    compare_window_cards(check.operation, cards);
    for (int r = 0; r < P; ++r) {
      if (cards[static_cast<std::size_t>(r)].host != cards[0].host) {
        throw CommunicationError(check.operation,
                                 joined({"host of rank ", text_of(r)}),
                                 "another than that of rank 0",
                                 "the same: memory is shared within a host",
                                 r,
                                 0);
      }
    }

    known_ = true;
    std::vector<std::byte*> memory;
    Opened outcome;
    for (int r = 0; r < P && outcome.peer < 0; ++r) {
      IpcCard const& card = cards[static_cast<std::size_t>(r)];
      void* p             = card.data;
      if (card.process != mine.process) {
        outcome.error = cudaIpcOpenMemHandle(&p, card.handle, cudaIpcMemLazyEnablePeerAccess);
        if (outcome.error == cudaSuccess) { opened_.push_back(p); }
      } else if (card.device != mine.device) {
        outcome.error = cudaDeviceEnablePeerAccess(card.device, 0);
        if (outcome.error == cudaErrorPeerAccessAlreadyEnabled) {
          (void)cudaGetLastError();
          outcome.error = cudaSuccess;
        }
      }
      if (outcome.error != cudaSuccess) {
        window_ignore(outcome.error);
        outcome.peer = r;
      }
      memory.push_back(static_cast<std::byte*>(p));
    }
    auto const outcomes = gather_to_host(comm, exec, outcome);
    for (int r = 0; r < P; ++r) {
      Opened const& its = outcomes[static_cast<std::size_t>(r)];
      if (its.peer < 0) { continue; }
      close();
      (void)gather_to_host(comm, exec, char{0});  // nobody has this rank's memory open any more
      known_ = false;
      throw CommunicationError(
          check.operation,
          joined({"memory of rank ", text_of(its.peer), " at rank ", text_of(r)}),
          cudaGetErrorName(its.error),
          "opened through CUDA IPC",
          its.peer,
          0);
    }
    this->storage.point(exec, memory);
    this->place(comm.rank(), P, bytes, channels);
  }
  struct Opened {
    int peer          = -1;  // the first that failed
    cudaError_t error = cudaSuccess;
  };
  void close() noexcept
  {
    for (void* const p : opened_) {
      window_ignore(cudaIpcCloseMemHandle(p));
    }
    opened_.clear();
  }

  std::vector<void*> opened_;
  bool known_ = false;  // peers may have opened this rank's memory
};

}  // namespace moe::detail
