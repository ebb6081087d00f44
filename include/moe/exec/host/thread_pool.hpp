#pragma once
// The Host space's threads: they sleep until there is work, and share it task by task.
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <moe/core/error.hpp>

namespace moe::detail {

// run(n, task) calls task(worker, i) once for every i in [0, n), on up to size() threads, the
// caller among them; which thread runs which task is not fixed, so tasks must not care. One run at
// a time: a second caller waits, and a run inside a task, of this pool or another, is a plain loop.
class ThreadPool {
 public:
  explicit ThreadPool(int threads)
  {
    try {
      for (int worker = 1; worker < threads; ++worker) {
        workers_.emplace_back([this, worker] { work(worker); });
      }
    } catch (std::system_error const&) {
      std::string const started = text_of(size());
      stop();
      throw ValueError("moe::Host",
                       "threads",
                       text_of(threads),
                       "at most what the system starts (" + started + ")");
    }
  }
  ThreadPool(ThreadPool const&)            = delete;
  ThreadPool& operator=(ThreadPool const&) = delete;
  ~ThreadPool() { stop(); }

  [[nodiscard]] int size() const { return static_cast<int>(workers_.size()) + 1; }

  template <class Task>
  void run(index_t n, Task const& task)
  {
    run(n, &task, [](void const* t, int worker, index_t i) {
      (*static_cast<Task const*>(t))(worker, i);
    });
  }

 private:
  // The pools whose tasks this thread is in, innermost first.
  struct Inside {
    Inside(ThreadPool const* p, int w) : pool{p}, worker{w}, outer{innermost_}
    {
      innermost_ = this;
    }
    Inside(Inside const&)            = delete;
    Inside& operator=(Inside const&) = delete;
    ~Inside() { innermost_ = outer; }
    ThreadPool const* pool;
    int worker;
    Inside const* outer;
  };

  using Call = void (*)(void const* task, int worker, index_t i);

  // Compiled once, whatever the tasks: they are blocks of rows, which an indirect call does not
  // slow.
  void run(index_t n, void const* task, Call call)
  {
    if (n <= 0) { return; }
    for (auto const* frame = innermost_; frame != nullptr; frame = frame->outer) {
      if (frame->pool == this) {  // a task that runs tasks: this worker's own loop
        for (index_t i = 0; i < n; ++i) {
          call(task, frame->worker, i);
        }
        return;
      }
    }
    std::lock_guard const one_run_at_a_time(callers_);
    Inside const inside(this, 0);
    if (n == 1 || workers_.empty() || inside.outer != nullptr) {
      for (index_t i = 0; i < n; ++i) {
        call(task, 0, i);
      }
      return;
    }
    {
      std::lock_guard const lock(mutex_);
      call_    = call;
      task_    = task;
      count_   = n;
      running_ = static_cast<int>(workers_.size());
      next_.store(0, std::memory_order_relaxed);
      ++generation_;
    }
    wake_.notify_all();
    drain(0);
    std::unique_lock lock(mutex_);
    done_.wait(lock, [this] { return running_ == 0; });
    if (failure_) { std::rethrow_exception(std::exchange(failure_, nullptr)); }
  }

  void stop()
  {
    {
      std::lock_guard const lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    for (auto& w : workers_) {
      w.join();
    }
  }

  void drain(int worker)
  {
    try {
      for (index_t i = next_++; i < count_; i = next_++) {
        call_(task_, worker, i);
      }
    } catch (...) {  // only a user's functor can throw; the first one is reported to the caller
      next_.store(count_);
      std::lock_guard const lock(mutex_);
      if (!failure_) { failure_ = std::current_exception(); }
    }
  }

  void work(int worker)
  {
    Inside const inside(this, worker);
    for (unsigned long long seen = 0;;) {
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [&] { return stopping_ || generation_ != seen; });
        if (stopping_) { return; }
        seen = generation_;
      }
      drain(worker);
      std::lock_guard const lock(mutex_);
      if (--running_ == 0) { done_.notify_one(); }
    }
  }

  inline static thread_local Inside const* innermost_ = nullptr;

  std::mutex callers_, mutex_;
  std::condition_variable wake_, done_;
  std::vector<std::thread> workers_;
  std::exception_ptr failure_;
  Call call_        = nullptr;
  void const* task_ = nullptr;
  index_t count_    = 0;
  std::atomic<index_t> next_{0};
  unsigned long long generation_ = 0;
  int running_                   = 0;
  bool stopping_                 = false;
};

}  // namespace moe::detail
