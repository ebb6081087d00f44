#pragma once
// A Team of several lanes on the host: a thread each, which meet at a barrier. For showing that row
// maths written over a team is the same as with one lane; a GPU's warp runs it alike.
#include <moe/core/team.hpp>

#include <barrier>
#include <thread>
#include <vector>

namespace moe::test {

class Lanes {
 public:
  explicit Lanes(int size)
      : barrier_{size}, value_(static_cast<std::size_t>(size)), at_(static_cast<std::size_t>(size))
  {
  }

  class LaneTeam {
   public:
    LaneTeam(Lanes& lanes, int lane) : lanes_{&lanes}, lane_{lane} {}
    [[nodiscard]] int lane() const { return lane_; }
    [[nodiscard]] int size() const { return static_cast<int>(lanes_->value_.size()); }
    template <class S>
    [[nodiscard]] S sum(S x) const
    {
      return reduce(x, 0, [](S a, S b) { return static_cast<S>(a + b); });
    }
    template <class S>
    [[nodiscard]] S max(S x) const
    {
      return reduce(x, 0, [](S a, S b) { return b > a ? b : a; });
    }
    template <class S>
    [[nodiscard]] Id arg_max(S x, Id i) const
    {
      post(x, i);
      auto best = lanes_->value_[0];
      Id at     = lanes_->at_[0];
      for (std::size_t lane = 1; lane < lanes_->value_.size(); ++lane) {
        double const v = lanes_->value_[lane];
        if (v > best || (v == best && lanes_->at_[lane] < at)) {
          best = v;
          at   = lanes_->at_[lane];
        }
      }
      sync();
      return at;
    }
    void sync() const { lanes_->barrier_.arrive_and_wait(); }

   private:
    template <class S>
    void post(S x, Id i) const
    {
      lanes_->value_[static_cast<std::size_t>(lane_)] = static_cast<double>(x);  // exact
      lanes_->at_[static_cast<std::size_t>(lane_)]    = i;
      sync();
    }
    template <class S, class F>
    [[nodiscard]] S reduce(S x, Id i, F const& f) const
    {
      post(x, i);
      auto result = static_cast<S>(lanes_->value_[0]);
      for (std::size_t lane = 1; lane < lanes_->value_.size(); ++lane) {
        result = f(result, static_cast<S>(lanes_->value_[lane]));
      }
      sync();
      return result;
    }
    Lanes* lanes_;
    int lane_;
  };

  // f(team) on every lane at once
  template <class F>
  void run(F const& f)
  {
    std::vector<std::thread> threads;
    for (int lane = 1; lane < static_cast<int>(value_.size()); ++lane) {
      threads.emplace_back([&, lane] { f(LaneTeam(*this, lane)); });
    }
    f(LaneTeam(*this, 0));
    for (auto& t : threads) {
      t.join();
    }
  }

 private:
  std::barrier<> barrier_;
  std::vector<double> value_;
  std::vector<Id> at_;
};
static_assert(Team<Lanes::LaneTeam>);

}  // namespace moe::test
