#pragma once
// A rank's steps between the others: its collectives, and the signals and waits of its windows. A
// communicator counts them and does something else at one of them.
#include <moe/comm/decorators.hpp>
#include <moe/comm/thread_world.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <memory_resource>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace moe::test {

struct StepPoint {
  // What comes next: "all_gather", "signal on channel 2", "wait ...", "work after the wait ...".
  std::string name;
  // The collective that the rank has come to last, as the library names and numbers it. In groups,
  // after a split, the number counts on, while the library's begins anew.
  std::string collective = "moe::ThreadWorld";
  std::uint64_t sequence = 0;
  bool groups            = false;
  std::uint64_t signals  = 0;  // of a signal: its number on its channel of its window
  int channel            = -1;
};

// Of one rank: all points that it came by, and what happens at one of them, counted from 1.
struct RankSteps {
  std::vector<StepPoint> points{};
  std::size_t at = 0;  // 0: none
  std::function<void(StepPoint const&)> act{};

  void come_to(StepPoint point)
  {
    point.collective = last_.collective;
    point.sequence   = last_.sequence;
    point.groups     = last_.groups;
    points.push_back(std::move(point));
    if (points.size() == at) { act(points.back()); }
  }
  void come_to_collective(char const* operation)
  {
    come_to({.name = operation});
    last_.collective = std::string{"moe::ThreadCommunicator::"} + operation;
    last_.groups     = last_.groups || last_.collective.ends_with("::split");
    ++last_.sequence;
  }

 private:
  StepPoint last_{};
};

// Of a world: notices memory of a window that is given back while some rank still has that window,
// and does not pass it on.
class WindowWatch final : public std::pmr::memory_resource {
 public:
  explicit WindowWatch(std::pmr::memory_resource* upstream) : upstream_{upstream} {}
  [[nodiscard]] int mistakes() const
  {
    std::lock_guard const lock(mutex_);
    return mistakes_;
  }
  void hold(WindowView const& view)
  {
    std::lock_guard const lock(mutex_);
    for (int r = 0; r < view.size; ++r) {
      ++held_[view.of(r)];
    }
  }
  void let_go(WindowView const& view)
  {
    std::lock_guard const lock(mutex_);
    for (int r = 0; r < view.size; ++r) {
      --held_[view.of(r)];
    }
  }

 private:
  void* do_allocate(std::size_t bytes, std::size_t alignment) override
  {
    return upstream_->allocate(bytes, alignment);
  }
  void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) override
  {
    {
      std::lock_guard const lock(mutex_);
      auto const found = held_.find(p);
      if (found != held_.end() && found->second > 0) {
        ++mistakes_;
        return;
      }
      held_.erase(p);
    }
    upstream_->deallocate(p, bytes, alignment);
  }
  [[nodiscard]] bool do_is_equal(std::pmr::memory_resource const& other) const noexcept override
  {
    return this == &other;
  }

  std::pmr::memory_resource* upstream_;
  mutable std::mutex mutex_;
  std::map<void const*, int> held_;  // windows that ranks have to it
  int mistakes_ = 0;
};

namespace stepped {

struct ComeToCollective {
  RankSteps* steps;
  template <class CommT>
  void operator()(CommT const&, CollectiveCall const& call) const
  {
    steps->come_to_collective(call.operation);
  }
};

// A window around a window.
class SteppedWindow final : public moe::detail::WindowModel<Host> {
 public:
  SteppedWindow(Window<Host> inner, int rank_in_world, RankSteps& steps, WindowWatch& watch)
      : inner_{std::move(inner)},
        steps_{steps},
        watch_{watch},
        signals_(static_cast<std::size_t>(inner_.channels()))
  {
    view       = inner_.view();
    local      = inner_.local();
    bytes      = inner_.bytes();
    channels   = inner_.channels();
    world_rank = rank_in_world;
    watch_.hold(view);
  }
  ~SteppedWindow() override { watch_.let_go(view); }

  void signal(Host const& exec, int channel) override
  {
    steps_.come_to(point("signal", channel, ++signals_[static_cast<std::size_t>(channel)]));
    inner_.signal(exec, channel);
  }
  void wait(Host const& exec, int channel) override
  {
    steps_.come_to(point("wait", channel, signals_[static_cast<std::size_t>(channel)]));
    inner_.wait(exec, channel);
    steps_.come_to(point("work after the wait", channel, 0));
  }
  void check() override { inner_.check(); }

 private:
  static StepPoint point(char const* what, int channel, std::uint64_t signals)
  {
    return {.name    = what + (" on channel " + std::to_string(channel)),
            .signals = signals,
            .channel = channel};
  }

  Window<Host> inner_;
  RankSteps& steps_;
  WindowWatch& watch_;
  std::vector<std::uint64_t> signals_;  // (channels)
};

}  // namespace stepped

class SteppedCommunicator : public CommunicatorDecorator<SteppedCommunicator,
                                                         ThreadCommunicator,
                                                         stepped::ComeToCollective> {
  using Base =
      CommunicatorDecorator<SteppedCommunicator, ThreadCommunicator, stepped::ComeToCollective>;
  friend Base;

 public:
  SteppedCommunicator(ThreadCommunicator const& comm, RankSteps& steps, WindowWatch& watch)
      : Base{comm, stepped::ComeToCollective{&steps}}, watch_{&watch}
  {
  }
  [[nodiscard]] SteppedCommunicator split(int color, int key) const
  {
    SteppedCommunicator group = Base::split(color, key);
    group.watch_              = watch_;
    return group;
  }
  [[nodiscard]] Window<Host> window(Host const& exec,
                                    std::size_t bytes,
                                    WindowOptions const& options = {}) const
  {
    return Window<Host>(std::make_unique<stepped::SteppedWindow>(Base::window(exec, bytes, options),
                                                                 this->inner().world_rank(),
                                                                 *this->hook().steps,
                                                                 *watch_));
  }

 private:
  SteppedCommunicator(ThreadCommunicator comm, std::shared_ptr<Base::State> state)
      : Base{std::move(comm), std::move(state)}
  {
  }
  WindowWatch* watch_ = nullptr;
};
static_assert(ExchangeCommunicator<SteppedCommunicator, Host, float> &&
              HasWindow<SteppedCommunicator, Host>);

}  // namespace moe::test
