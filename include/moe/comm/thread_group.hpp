#pragma once
// Where the ranks of one ThreadCommunicator meet. Each stages what it sends in memory of the group,
// meets the others, and copies what it receives out of their staged bytes: no rank ever sees memory
// of another, so one that unwinds can free its buffers at any time.
//
// Staging is double: collective n uses half n % 2. A rank writes its half again for n + 2, that is
// after all have come to n + 1, so after all are done with n. One meeting per collective is enough.
// What is staged, and in which order it is read, is the space's (thread_call.hpp).
#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <moe/comm/thread_post.hpp>
#include <moe/comm/thread_state.hpp>

namespace moe::detail {

class ThreadGroup {
 public:
  using Post = ThreadPost;

  ThreadGroup(std::shared_ptr<ThreadState> state, std::vector<int> world_ranks, std::string name)
      : state_{std::move(state)},
        world_ranks_{std::move(world_ranks)},
        name_{std::move(name)},
        members_(world_ranks_.size())
  {
    for (auto& half : posts_) {
      half.reserve(world_ranks_.size());
      for (std::size_t r = 0; r < world_ranks_.size(); ++r) {
        half.emplace_back(state_->resource);
      }
    }
  }

  [[nodiscard]] int size() const { return static_cast<int>(world_ranks_.size()); }
  [[nodiscard]] int world_rank(int rank) const { return world_ranks_[index(rank)]; }
  [[nodiscard]] ThreadState& state() const { return *state_; }

  // What the ranks stage in on a space that has a StagesT for it, made by the first that asks; goes
  // with the group, so when no rank can read it any more.
  template <class StagesT>
  [[nodiscard]] StagesT& stages()
  {
    std::lock_guard const lock(state_->mutex);
    for (auto const& [tag, stages] : stages_) {
      if (tag == &StagesT::tag) { return *static_cast<StagesT*>(stages.get()); }
    }
    auto const made = std::make_shared<StagesT>(size());
    stages_.emplace_back(&StagesT::tag, made);
    return *made;
  }

  // One rank's part in one collective, from its start to the last byte copied out.
  class Call {
   public:
    Call(ThreadGroup& group, int rank, Fingerprint const& fingerprint) : group_{group}, rank_{rank}
    {
      group.enter(rank, fingerprint.operation);
      half_              = &group.posts_[(group.members_[index(rank)].sequence + 1) % 2];
      mine().fingerprint = fingerprint;
    }
    Call(Call const&)            = delete;
    Call& operator=(Call const&) = delete;
    ~Call() { group_.leave(rank_); }

    [[nodiscard]] Post& mine() { return (*half_)[index(rank_)]; }
    [[nodiscard]] Post const& of(int peer) const { return (*half_)[index(peer)]; }
    [[nodiscard]] int size() const { return group_.size(); }
    [[nodiscard]] int rank() const { return rank_; }
    [[nodiscard]] int world_rank() const { return group_.world_rank(rank_); }

    // Returns when all have come and agree; throws what keeps them from it.
    void meet() { group_.meet(rank_, *half_); }

   private:
    ThreadGroup& group_;
    int rank_;
    std::vector<Post>* half_;
  };

 private:
  struct Member {
    std::uint64_t sequence = 0;  // of the collective that this rank has come to
    bool inside            = false;
  };

  [[nodiscard]] static std::size_t index(int rank) { return static_cast<std::size_t>(rank); }

  void enter(int rank, Collective operation)
  {
    std::lock_guard const lock(state_->mutex);
    state_->check();
    if (members_[index(rank)].inside) {
      throw StateError(name_of(operation),
                       "communicator",
                       "inside a collective of another thread",
                       "used by one thread at a time",
                       world_rank(rank));
    }
    members_[index(rank)].inside = true;
  }
  void leave(int rank) noexcept
  {
    std::lock_guard const lock(state_->mutex);
    members_[index(rank)].inside = false;
  }

  void meet(int rank, std::vector<Post>& posts)
  {
    std::unique_lock lock(state_->mutex);
    state_->check();
    std::uint64_t const sequence = ++members_[index(rank)].sequence;
    posts[index(rank)].sequence  = sequence;
    Collective const operation   = posts[index(rank)].fingerprint.operation;
    state_->reach(world_rank(rank), operation, sequence);
    if (++arrived_ == size()) {
      refuse_disagreement(rank, posts, sequence);
      if (operation == Collective::split) { make_children(rank, posts, sequence); }
      arrived_   = 0;
      completed_ = sequence;
      for (int const r : world_ranks_) {
        state_->wake(r).notify_all();
      }
      return;
    }
    auto const end = std::chrono::steady_clock::now() + state_->deadline;
    state_->wake(world_rank(rank)).wait_until(lock, end, [&] {
      return completed_ >= sequence || state_->failed();
    });
    // What all have come to is completed on all, also when one of them has failed since.
    if (completed_ >= sequence) { return; }
    if (!state_->failed()) {
      refuse_disagreement(rank, posts, sequence);  // says more than that somebody is missing
      time_out(rank, operation, sequence);
    }
    state_->check();
  }

  [[nodiscard]] std::string at(std::uint64_t sequence) const
  {
    return joined({" at sequence ", text_of(sequence), name_.empty() ? "" : " of ", name_});
  }

  [[noreturn]] void fail(int by, ThreadFailure failure)
  {
    state_->fail(world_rank(by), std::move(failure));
    state_->check();
    std::terminate();  // check() throws after fail()
  }

  // Compares those that have come: each with the first of them, and every pair's counts.
  void refuse_disagreement(int by, std::vector<Post> const& posts, std::uint64_t sequence)
  {
    int first = -1;
    for (int r = 0; r < size(); ++r) {
      Post const& post = posts[index(r)];
      if (post.sequence != sequence) { continue; }
      if (first < 0) { first = r; }
      Fingerprint const& a = posts[index(first)].fingerprint;
      Fingerprint const& b = post.fingerprint;
      auto const refuse    = [&](char const* what, std::string_view was, std::string_view must_be) {
        fail(by,
                {name_of(b.operation),
              joined({what, " of rank ", text_of(world_rank(r)), at(sequence)}),
              std::string{was},
              joined({must_be, ", as of rank ", text_of(world_rank(first))}),
              world_rank(r),
              sequence,
              {}});
      };
      if (a.operation != b.operation) {
        refuse("operation", name_of(b.operation), name_of(a.operation));
      }
      if (std::string_view{a.space} != b.space) { refuse("space", b.space, a.space); }
      if (a.element_bytes != b.element_bytes) {
        refuse(b.operation == Collective::window ? "channels" : "element size",
               text_of(b.element_bytes),
               text_of(a.element_bytes));
      }
      if (std::string_view{a.element_kind} != b.element_kind) {
        refuse("element kind", b.element_kind, a.element_kind);
      }
      if (a.count != b.count) {
        refuse(b.operation == Collective::window ? "bytes" : "element count",
               text_of(b.count),
               text_of(a.count));
      }
    }
    if (first < 0 || posts[index(first)].fingerprint.operation != Collective::all_to_all_v) {
      return;
    }
    for (int from = 0; from < size(); ++from) {
      for (int to = 0; to < size(); ++to) {
        Post const& s = posts[index(from)];
        Post const& r = posts[index(to)];
        if (s.sequence != sequence || r.sequence != sequence) { continue; }
        index_t const sent     = s.send_counts[index(to)];
        index_t const received = r.receive_counts[index(from)];
        if (sent == received) { continue; }
        fail(by,
             {name_of(Collective::all_to_all_v),
              joined({"send count of rank ",
                      text_of(world_rank(from)),
                      " to rank ",
                      text_of(world_rank(to)),
                      at(sequence)}),
              text_of(sent),
              joined({"the receive count there (", text_of(received), ")"}),
              world_rank(from),
              sequence,
              {}});
      }
    }
  }

  [[noreturn]] void time_out(int by, Collective operation, std::uint64_t sequence)
  {
    std::vector<int> missing;
    for (int r = 0; r < size(); ++r) {
      if (members_[index(r)].sequence < sequence) { missing.push_back(world_rank(r)); }
    }
    std::sort(missing.begin(), missing.end());
    std::string names = missing.size() == 1 ? "rank" : "ranks";
    for (int const r : missing) {
      names += joined({" ", text_of(r)});
    }
    int const rank = missing.at(0);
    fail(by,
         {name_of(operation),
          joined({"arrival of ", names, at(sequence)}),
          joined({"missing after ", text_of(state_->deadline.count()), " ms"}),
          "within the deadline",
          rank,
          sequence,
          std::move(missing)});
  }

  // Called by the last to come, for all.
  void make_children(int by, std::vector<Post>& posts, std::uint64_t sequence)
  {
    try {
      std::vector<int> order(posts.size());
      for (int r = 0; r < size(); ++r) {
        order[index(r)] = r;
      }
      std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
        Post const &l = posts[index(a)], &r = posts[index(b)];
        return l.color != r.color ? l.color < r.color : l.key < r.key;
      });
      for (std::size_t begin = 0, end = 0; begin < order.size(); begin = end) {
        int const color = posts[index(order[begin])].color;
        std::vector<int> ranks;
        for (end = begin; end < order.size() && posts[index(order[end])].color == color; ++end) {
          ranks.push_back(world_rank(order[end]));
        }
        auto const child = std::make_shared<ThreadGroup>(
            state_,
            std::move(ranks),
            joined({"group ", text_of(color), " of the split", at(sequence)}));
        for (std::size_t i = begin; i < end; ++i) {
          posts[index(order[i])].child      = child;
          posts[index(order[i])].child_rank = static_cast<int>(i - begin);
        }
      }
    } catch (std::bad_alloc const&) {
      fail(by,
           {name_of(Collective::split),
            "memory of the groups",
            "exhausted",
            "enough",
            world_rank(by),
            sequence,
            {}});
    }
  }

  std::shared_ptr<ThreadState> state_;
  std::vector<int> world_ranks_;  // (P)
  std::string name_;              // empty: the whole world

  // Guarded by the state's mutex.
  std::vector<Member> members_;  // (P)
  int arrived_             = 0;
  std::uint64_t completed_ = 0;
  std::vector<std::pair<void const*, std::shared_ptr<void>>> stages_;  // by StagesT::tag

  std::vector<Post> posts_[2];  // (P)
};

}  // namespace moe::detail
