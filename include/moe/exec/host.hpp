#pragma once
// The Host space: this process's memory and threads.
#include <algorithm>
#include <cstring>
#include <memory>
#include <memory_resource>
#include <new>
#include <string>

#include <moe/core/error.hpp>
#include <moe/core/team.hpp>
#include <moe/exec/execution_space.hpp>
#include <moe/exec/host/pooling_resource.hpp>
#include <moe/exec/host/profiler.hpp>
#include <moe/exec/host/thread_pool.hpp>

namespace moe {

struct HostOptions {
  int threads = 0;  // 0: all that the machine has
  std::pmr::memory_resource* resource =
      nullptr;  // null: a pool of its own; the caller's must outlive it
  Products products = Products::automatic;
};

// A handle: copies share threads and memory. May be used by several user threads at once; their
// parallel loops then take turns.
class Host {
 public:
  using team_type     = SerialTeam;
  using profiler_type = HostProfiler;

  explicit Host(HostOptions options = {}) : state_{std::make_shared<State>(options)} {}
  [[nodiscard]] static Host none() { return Host(nullptr); }

  [[nodiscard]] int threads() const { return state_->threads.size(); }
  [[nodiscard]] Products products() const { return own_ ? Products::own : state_->products; }
  // This handle's state, but with the library's own products.
  [[nodiscard]] Host with_own_products() const
  {
    Host h = *this;
    h.own_ = true;
    return h;
  }
  [[nodiscard]] std::pmr::memory_resource* resource() const { return state_->resource; }

  [[nodiscard]] void* allocate(std::size_t bytes) const
  {
    void* const p = allocate(*state_->resource, bytes);
    if (recorder_ != nullptr) { recorder_->allocated(bytes); }
    return p;
  }
  void deallocate(void* p, std::size_t bytes) const noexcept
  {
    state_->resource->deallocate(p, bytes, PoolingResource::alignment);
    if (recorder_ != nullptr) { recorder_->deallocated(bytes); }
  }

  void copy_from_host(void* to, void const* from, std::size_t bytes) const
  {
    copy(to, from, bytes);
  }
  void copy_to_host(void* to, void const* from, std::size_t bytes) const { copy(to, from, bytes); }
  void copy(void* to, void const* from, std::size_t bytes) const
  {
    if (bytes > 0) { std::memcpy(to, from, bytes); }
  }
  void zero(void* p, std::size_t bytes) const
  {
    if (bytes > 0) { std::memset(p, 0, bytes); }
  }

  template <class F>
  void for_each_row(index_t rows, F const& f) const
  {
    // Blocks, so that threads do not meet at the counter for every row; their borders do not
    // change what a row computes.
    index_t const blocks = std::min<index_t>(rows, threads() == 1 ? 1 : index_t{16} * threads());
    for_each_task(blocks, [&](int, index_t b) {
      for (index_t i = rows * b / blocks, end = rows * (b + 1) / blocks; i < end; ++i) {
        f(SerialTeam{}, i);
      }
    });
  }

  // Host's own: task(worker, i) for every i in [0, n); worker < threads() names scratch memory that
  // no other running task uses.
  template <class Task>
  void for_each_task(index_t n, Task const& task) const
  {
    state_->threads.run(n, task);
  }

  // Host's own: memory for one task of worker `worker`, so that primitives ask for none. It goes
  // with the threads, as their stacks do, and does not come from the resource.
  static constexpr std::size_t scratch_bytes = std::size_t{3} << 19;
  [[nodiscard]] void* scratch(int worker) const
  {
    return static_cast<std::byte*>(state_->scratch) +
           static_cast<std::size_t>(worker) * scratch_bytes;
  }

  [[nodiscard]] Host lane(int) const { return *this; }
  struct Mark {};
  [[nodiscard]] Mark mark() const { return {}; }
  void wait(Mark) const {}
  void synchronize() const {}
  void enter(char const*) const {}

  // The same space, which tells `profiler` what it does.
  [[nodiscard]] Host with(HostProfiler const& profiler) const
  {
    Host profiled      = *this;
    profiled.recorder_ = profiler.recorder();
    return profiled;
  }
  [[nodiscard]] PhaseScope<HostProfiler::Recorder> phase(Phase p) const
  {
    return {recorder_.get(), p, HostProfiler::Recorder::Track{}};
  }
  void count_sent(std::size_t bytes) const noexcept
  {
    if (recorder_ != nullptr) { recorder_->count_sent(bytes); }
  }
  [[nodiscard]] std::uint64_t* sent_there() const noexcept
  {
    return recorder_ != nullptr ? recorder_->sent_there() : nullptr;
  }

 private:
  struct State {
    explicit State(HostOptions const& o)
        : resource{o.resource != nullptr ? o.resource : &pool},
          products{o.products != Products::automatic ? o.products : default_products},
          threads{o.threads > 0
                      ? o.threads
                      : std::max(1, static_cast<int>(std::thread::hardware_concurrency()))}
    {
#if !defined(MOE_WITH_CBLAS)
      Check{"moe::Host"}.that(
          products != Products::blas,
          "products",
          "blas",
          "own: no CBLAS was found when this program was configured (MOE_BLAS)");
#endif
      scratch = allocate(*std::pmr::new_delete_resource(), all_scratch());
    }
    State(State const&)            = delete;
    State& operator=(State const&) = delete;
    ~State()
    {
      std::pmr::new_delete_resource()->deallocate(
          scratch, all_scratch(), PoolingResource::alignment);
    }
    [[nodiscard]] std::size_t all_scratch() const
    {
      return static_cast<std::size_t>(threads.size()) * scratch_bytes;
    }
    PoolingResource pool;
    std::pmr::memory_resource* resource;
    Products products;
    detail::ThreadPool threads;
    void* scratch = nullptr;
  };
#if defined(MOE_WITH_CBLAS)
  static constexpr Products default_products = Products::blas;
#else
  static constexpr Products default_products = Products::own;
#endif

  static void* allocate(std::pmr::memory_resource& resource, std::size_t bytes)
  {
    try {
      return resource.allocate(bytes, PoolingResource::alignment);
    } catch (std::bad_alloc const&) {
      throw OutOfMemoryError("moe::Host::allocate",
                             "bytes",
                             detail::text_of(bytes),
                             "what the memory resource can give");
    }
  }

  explicit Host(std::nullptr_t) {}
  std::shared_ptr<State> state_;
  bool own_ = false;
  std::shared_ptr<HostProfiler::Recorder> recorder_;  // null: nobody listens
};
static_assert(ExecutionSpace<Host>);

}  // namespace moe
