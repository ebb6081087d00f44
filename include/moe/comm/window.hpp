#pragma once
// Contract: memory of every rank that its peers store into, one-sided, and flags that say when what
// they stored is there.
//
//   auto window = comm.window(exec, bytes);       // collective, like a split
//   store_rows(exec, window.view(), ...);         // a kernel of the caller: view.of(peer)[i] = ...
//   window.signal(exec, 0);                       // what I stored before this is at my peers ...
//   window.wait(exec, 0);                         // ... and what each of them stored is here
//   read_rows(exec, window.local(), ...);
//   window.check();                               // throws if a wait ended without its flags
//
// Before a rank stores again where it stored before, its peer must have read it: that takes a
// signal of the peer's, on another channel, or two halves in turn.
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#include <moe/core/config.hpp>
#include <moe/core/error.hpp>

namespace moe {

struct WindowOptions {
  int channels = 8;  // flags of each rank that are counted apart
  // Of each wait; 0: the communicator's own.
  std::chrono::milliseconds deadline{0};
  // For tools that let a GPU run only one kernel at a time, as compute-sanitizer may: ranks that
  // are threads then meet on the host between signal and wait, where each has waited for its
  // stream. Cannot be captured into a graph; the same on all ranks.
  bool one_kernel_at_a_time = false;
};

// What code that stores needs of a window; on Cuda kernels take it by value, and only they can use
// its pointers.
struct WindowView {
  std::byte* const* memory    = nullptr;  // (P): every rank's memory as this rank sees it
  std::uint32_t const* status = nullptr;  // not 0 once the window has failed
  int rank = 0, size = 1;

  [[nodiscard]] MOE_HOST_DEVICE std::byte* of(int r) const { return memory[r]; }
  // A wait has ended without its flags: what should have arrived has not.
  [[nodiscard]] MOE_HOST_DEVICE bool failed() const
  {
#if defined(__CUDA_ARCH__)
    return *static_cast<std::uint32_t const volatile*>(status) != 0;
#else
    return __atomic_load_n(status, __ATOMIC_ACQUIRE) != 0;
#endif
  }
};
static_assert(std::is_trivially_copyable_v<WindowView>);

namespace detail {
struct WindowReport;  // comm/cuda/window_wait.cuh
}

// The wait of one channel, as a kernel does it. An empty one waits for nothing.
struct WindowWait {
  std::uint64_t const* flags     = nullptr;  // (P) of every rank, here
  std::uint32_t* status          = nullptr;
  detail::WindowReport* report   = nullptr;
  unsigned long long nanoseconds = 0;  // of the deadline
  int channel                    = 0;
};
static_assert(std::is_trivially_copyable_v<WindowWait>);

// A flag that a kernel raises itself, once all of its blocks have stored: signal_when_stored() of
// comm/cuda/window_signal.cuh. An empty one raises none.
struct WindowSignal {
  std::byte* const* memory = nullptr;  // (P)
  std::size_t flag         = 0;        // where in each memory
  std::uint64_t* count     = nullptr;  // how often it was raised
  std::uint32_t* blocks    = nullptr;  // that have stored; 0 between launches
  int size                 = 0;
  WindowWait wait{};  // after the flag, where there is one
};
static_assert(std::is_trivially_copyable_v<WindowSignal>);

namespace detail {

// A model of Window on a space.
template <class ExecT>
class WindowModel {
 public:
  WindowModel()                              = default;
  WindowModel(WindowModel const&)            = delete;
  WindowModel& operator=(WindowModel const&) = delete;
  // Frees nothing that a peer can still read or write; waits no longer than a deadline.
  virtual ~WindowModel() = default;

  virtual void signal(ExecT const& exec, int channel) = 0;
  virtual void wait(ExecT const& exec, int channel)   = 0;
  virtual void check()                                = 0;
  virtual void signal_and_wait(ExecT const& exec, int channel)
  {
    signal(exec, channel);
    wait(exec, channel);
  }
  virtual std::optional<WindowSignal> signal_of_kernel(ExecT const&, int) { return {}; }
  virtual std::optional<WindowSignal> signal_and_wait_of_kernel(ExecT const&, int) { return {}; }

  WindowView view;
  std::byte* local  = nullptr;  // this rank's memory
  std::size_t bytes = 0;
  int channels      = 0;
  int world_rank    = 0;  // for messages
};

// What one rank can see to be wrong.
inline void check_window(Check const& check, std::size_t bytes, WindowOptions const& options)
{
  check.at_most("bytes in MiB", static_cast<index_t>(bytes >> 20), "2^40", index_t{1} << 40);
  check.at_least("channels", options.channels, 1);
  check.at_most("channels", options.channels, "the most of one window", 1024);
  check.at_least("deadline in ms", options.deadline.count(), 0);
  check.at_most("deadline in ms",
                options.deadline.count(),
                "a year",
                std::chrono::milliseconds(std::chrono::hours(24 * 365)).count());
}

}  // namespace detail

// The owner of this rank's part, made by comm.window(exec, bytes, options): by every rank of the
// communicator, in the same order as its collectives and with the same bytes, channels and
// one_kernel_at_a_time, else refused with the rank that differs. Its memory is zero at first, and
// aligned to 256 bytes.
//
// All work that uses a window is enqueued, on streams that are still there, before its owner goes;
// what peers have enqueued by then they may still run. A moved-from one can only be assigned to.
// One thread at a time uses it.
template <class ExecT>
class Window {
 public:
  using Model = detail::WindowModel<ExecT>;
  explicit Window(std::unique_ptr<Model> model) : model_{std::move(model)} {}

  [[nodiscard]] std::size_t bytes() const { return made("moe::Window::bytes").bytes; }
  [[nodiscard]] int rank() const { return made("moe::Window::rank").view.rank; }
  [[nodiscard]] int size() const { return made("moe::Window::size").view.size; }
  [[nodiscard]] int channels() const { return made("moe::Window::channels").channels; }
  [[nodiscard]] std::byte* local() const { return made("moe::Window::local").local; }
  [[nodiscard]] WindowView view() const { return made("moe::Window::view").view; }

  // In stream order: raises this rank's flag of `channel` at every peer. A peer that has waited for
  // it sees all that this rank stored, in this stream before, into any window. How often is counted
  // where the flags are, so that a captured graph counts on at each replay.
  void signal(ExecT const& exec, int channel) const
  {
    entered(exec, "moe::Window::signal", channel).signal(exec, channel);
  }
  // signal(), left to the next kernel of this stream, which ends with it: one launch fewer. None
  // where it takes a launch of its own, or something else than a kernel.
  [[nodiscard]] std::optional<WindowSignal> signal_of_kernel(ExecT const& exec, int channel) const
  {
    return entered(exec, "moe::Window::signal", channel).signal_of_kernel(exec, channel);
  }
  // In stream order: until every peer has raised its flag of `channel` as often as this rank has.
  // At the deadline, or when ranks that are threads learn that their world has failed, it ends all
  // the same, and so do all later ones: the view's failed() and check() then tell. On Host it
  // throws what check() would.
  void wait(ExecT const& exec, int channel) const
  {
    entered(exec, "moe::Window::wait", channel).wait(exec, channel);
  }
  // signal() and then wait(): in one launch where that can be.
  void signal_and_wait(ExecT const& exec, int channel) const
  {
    entered(exec, "moe::Window::signal", channel).signal_and_wait(exec, channel);
  }
  // signal_and_wait(), left to the next kernel of this stream, as signal_of_kernel(): the kernel's
  // last block stays until the peers' flags are there. Also none for ranks as many as the GPU has
  // multiprocessors: if they share it, such blocks must leave room for what they wait for.
  [[nodiscard]] std::optional<WindowSignal> signal_and_wait_of_kernel(ExecT const& exec,
                                                                      int channel) const
  {
    return entered(exec, "moe::Window::signal", channel).signal_and_wait_of_kernel(exec, channel);
  }
  // Throws a TimeoutError or CommunicationError if a wait is known to have failed: the operation,
  // the missing ranks and, as its sequence, the number of the signal on its channel that did not
  // come. Waits for nothing: after a synchronisation it knows of all waits before that. signal and
  // wait begin with it.
  void check() const { made("moe::Window::check").check(); }

 private:
  [[nodiscard]] Model& made(char const* operation) const
  {
    if (model_ == nullptr) { throw StateError(operation, "the window", "moved from", "made"); }
    return *model_;
  }
  [[nodiscard]] Model& entered(ExecT const& exec, char const* operation, int channel) const
  {
    Model& model = made(operation);
    Check const check{operation, model.world_rank};
    check.at_least("channel", channel, 0);
    check.at_most("channel", channel, "channels - 1", model.channels - 1);
    exec.enter(operation);
    return model;
  }

  std::unique_ptr<Model> model_;
};

namespace detail {

// Rows of a functor, a signal after them and the wait for the peers': a space may have it in fewer
// launches (comm/cuda/window_rows.cuh). Called without its namespace, for functors of this one: so
// the space's is found where it is instantiated.
template <class ExecT, class F>
void for_each_row_and_wait(
    ExecT const& exec, index_t rows, F const& f, Window<ExecT> const& window, int channel)
{
  exec.for_each_row(rows, f);
  window.signal_and_wait(exec, channel);
}
// And then rows of another functor.
template <class ExecT, class F, class G>
void for_each_row_and_wait(ExecT const& exec,
                           index_t rows,
                           F const& f,
                           Window<ExecT> const& window,
                           int channel,
                           index_t rows_then,
                           G const& then)
{
  for_each_row_and_wait(exec, rows, f, window, channel);
  exec.for_each_row(rows_then, then);
}

}  // namespace detail

// Where a communicator makes windows.
template <class C, class ExecT>
concept HasWindow =
    requires(C const c, ExecT const exec, std::size_t bytes, WindowOptions const options) {
      { c.window(exec, bytes, options) } -> std::same_as<Window<ExecT>>;
    };

}  // namespace moe
