#pragma once
// A space that computes nothing and counts memory: what runs on it asks for what it would ask a
// Host or a Cuda for, in the same order, and gets addresses that nobody may touch.
#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <numeric>
#include <thread>
#include <utility>
#include <vector>

#include <moe/core/team.hpp>
#include <moe/core/view.hpp>
#include <moe/exec/execution_space.hpp>

namespace moe {

enum class MeteredSpace { host, cuda };

// The space whose memory is wanted. Only the primitives' scratch differs: that of Host's sort and
// histogram grows with threads, a BLAS wants gathered rows side by side, cuBLAS equal element
// types.
struct MemoryMeterOptions {
  MeteredSpace like = MeteredSpace::host;
  int threads       = 0;  // Host's; 0: all that the machine has
  Products products = Products::automatic;
  // Cuda's: scratch of CUB's sort of n pairs, which depends on the device: cub_sort_bytes of
  // moe/exec/cuda/sort_bytes.cuh asks the current one. Null: a bound for all of them.
  std::size_t (*sort_bytes)(int bits, index_t n, std::size_t key_bytes) = nullptr;
  // Cuda's: whether its products are those of sm_90a, of which an evaluation keeps no
  // pre-activations where rows of x, which are the caller's, are aligned to 16 bytes: as
  // runs_hopper_kernels of that header says. False: a bound for all devices.
  bool hopper = false;
};

// Memory that was asked for. Moments are numbered: each request and each return is one.
struct MeteredBlock {
  static constexpr std::size_t held = ~std::size_t{0};

  std::size_t bytes;
  std::uintptr_t address;
  Phase phase;  // the innermost that was open
  std::size_t made;
  std::size_t returned = held;

  [[nodiscard]] bool lives_at(std::size_t moment) const
  {
    return made <= moment && moment < returned;
  }
};

// A handle: copies share what was counted. One thread at a time uses it.
class MemoryMeter {
  struct State;

 public:
  using team_type                        = SerialTeam;
  static constexpr bool computes         = false;
  static constexpr bool counts_slots     = true;  // where it is like Cuda
  static constexpr bool counts_bad_input = true;

  explicit MemoryMeter(MemoryMeterOptions const& options = {})
      : state_{std::make_shared<State>(options)}
  {
  }
  [[nodiscard]] static MemoryMeter none() { return MemoryMeter(nullptr); }

  [[nodiscard]] MeteredSpace like() const { return state_->options.like; }
  [[nodiscard]] int threads() const { return state_->options.threads; }
  [[nodiscard]] Products products() const { return own_ ? Products::own : state_->products(); }
  [[nodiscard]] MemoryMeter with_own_products() const
  {
    MemoryMeter m = *this;
    m.own_        = true;
    return m;
  }
  [[nodiscard]] auto sort_bytes() const { return state_->options.sort_bytes; }
  [[nodiscard]] bool hopper() const { return state_->options.hopper; }
  [[nodiscard]] bool activates_products() const { return like() == MeteredSpace::cuda; }

  // In the order in which they were asked for.
  [[nodiscard]] std::vector<MeteredBlock> const& blocks() const { return state_->blocks; }
  [[nodiscard]] std::size_t moment() const { return state_->moment; }  // the next one's number
  [[nodiscard]] std::size_t bytes_in_use() const { return state_->in_use; }

  // Addresses of somebody else's memory, which does not count.
  [[nodiscard]] void* address(std::size_t bytes) const
  {
    return reinterpret_cast<void*>(state_->take(bytes));
  }
  [[nodiscard]] void* allocate(std::size_t bytes) const
  {
    State& s                = *state_;
    std::uintptr_t const at = s.take(bytes);
    s.index[at]             = s.blocks.size();
    s.blocks.push_back({bytes, at, s.open.empty() ? Phase::forward : s.open.back(), s.moment++});
    s.in_use += bytes;
    return reinterpret_cast<void*>(at);
  }
  void deallocate(void* p, std::size_t bytes) const noexcept
  {
    State& s          = *state_;
    auto const at     = reinterpret_cast<std::uintptr_t>(p);
    auto const number = s.index.find(at);
    if (number == s.index.end()) { return; }
    s.blocks[number->second].returned = s.moment++;
    s.index.erase(number);
    s.forget(at, bytes);
    s.in_use -= bytes;
  }

  // What the host wrote is remembered, byte for byte, so that what ranks tell one another of their
  // calls arrives; all else reads as zeros.
  void copy_from_host(void* to, void const* from, std::size_t bytes) const
  {
    auto const at      = reinterpret_cast<std::uintptr_t>(to);
    auto const* source = static_cast<std::byte const*>(from);
    for (std::size_t i = 0; i < bytes; ++i) {
      state_->known[at + i] = source[i];
    }
  }
  void copy_to_host(void* to, void const* from, std::size_t bytes) const
  {
    auto* const target = static_cast<std::byte*>(to);
    std::fill_n(target, bytes, std::byte{});
    auto const at = reinterpret_cast<std::uintptr_t>(from);
    for (auto i = state_->known.lower_bound(at), end = state_->known.lower_bound(at + bytes);
         i != end;
         ++i) {
      target[i->first - at] = i->second;
    }
  }
  void copy(void* to, void const* from, std::size_t bytes) const
  {
    State& s         = *state_;
    auto const there = reinterpret_cast<std::uintptr_t>(to);
    auto const here  = reinterpret_cast<std::uintptr_t>(from);
    s.forget(there, bytes);
    std::vector<std::pair<std::uintptr_t, std::byte>> const some(s.known.lower_bound(here),
                                                                 s.known.lower_bound(here + bytes));
    for (auto const& [at, value] : some) {
      s.known[there + (at - here)] = value;
    }
  }
  void zero(void* p, std::size_t bytes) const
  {
    state_->forget(reinterpret_cast<std::uintptr_t>(p), bytes);
  }

  template <class F>
  void for_each_row(index_t, F const&) const
  {
  }

  [[nodiscard]] MemoryMeter lane(int) const { return *this; }
  struct Mark {};
  [[nodiscard]] Mark mark() const { return {}; }
  void wait(Mark) const {}
  void synchronize() const {}
  void enter(char const*) const {}

  [[nodiscard]] PhaseScope<State> phase(Phase p) const { return {state_.get(), p, 0}; }
  void count_sent(std::size_t) const noexcept {}

  // Rows by expert, which a Host or a Cuda computes and the host reads where experts are spread
  // over ranks: `sent` (E) from here, `arrived` (P, L) at the experts here. Shorter lists leave
  // zeros.
  void plan_rows(std::vector<Id> sent, std::vector<Id> arrived) const
  {
    state_->sent    = std::move(sent);
    state_->arrived = std::move(arrived);
  }
  [[nodiscard]] Id planned_rows() const
  {
    return std::accumulate(state_->arrived.begin(), state_->arrived.end(), Id{0});
  }
  void tell_planned_rows(std::vector<Id>& sent, std::vector<Id>& arrived) const
  {
    auto const tell = [](std::vector<Id> const& from, std::vector<Id>& to) {
      std::copy_n(from.begin(), std::min(from.size(), to.size()), to.begin());
    };
    tell(state_->sent, sent);
    tell(state_->arrived, arrived);
  }

 private:
  struct State {
    explicit State(MemoryMeterOptions const& o) : options{o}
    {
      if (options.threads <= 0) {
        options.threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
      }
    }
    [[nodiscard]] Products products() const
    {
      if (options.products != Products::automatic) { return options.products; }
#if !defined(MOE_WITH_CBLAS)
      if (options.like == MeteredSpace::host) { return Products::own; }
#endif
      return Products::blas;
    }
    // Nobody's: above what programs map, and never the same twice.
    std::uintptr_t take(std::size_t bytes)
    {
      std::uintptr_t const at = next;
      next += (bytes / 256 + 1) * 256;
      return at;
    }
    void forget(std::uintptr_t at, std::size_t bytes)
    {
      known.erase(known.lower_bound(at), known.lower_bound(at + bytes));
    }
    // For PhaseScope.
    int begin(Phase p, int)
    {
      open.push_back(p);
      return 0;
    }
    void end(int) noexcept { open.pop_back(); }

    MemoryMeterOptions options;
    std::vector<MeteredBlock> blocks;
    std::map<std::uintptr_t, std::size_t> index;  // of those in use
    std::map<std::uintptr_t, std::byte> known;
    std::vector<Phase> open;
    std::vector<Id> sent, arrived;
    std::uintptr_t next = std::uintptr_t{1} << 56;
    std::size_t moment = 0, in_use = 0;
  };

  explicit MemoryMeter(std::nullptr_t) {}
  std::shared_ptr<State> state_;
  bool own_ = false;
};
static_assert(ExecutionSpace<MemoryMeter>);

}  // namespace moe
