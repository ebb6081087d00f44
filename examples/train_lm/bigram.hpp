#pragma once
// What a model must beat: the next byte guessed from the one before it, by counting.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include <moe/core/view.hpp>

namespace train_lm {

using moe::Id;
using moe::index_t;

// p(b | a) = (count(a, b) + smoothing p(b)) / (count(a) + smoothing), p(b) = (count(b) + 1/2) / (n
// + 128)
class Bigram {
 public:
  explicit Bigram(std::vector<std::string> const& pieces)
      : pair_(256 * 256, 0), first_(256, 0), byte_(256, 0)
  {
    for (auto const& piece : pieces) {
      for (std::size_t i = 0; i < piece.size(); ++i) {
        auto const b = static_cast<unsigned char>(piece[i]);
        ++byte_[b];
        ++bytes_;
        if (i == 0) { continue; }
        auto const a = static_cast<unsigned char>(piece[i - 1]);
        ++pair_[std::size_t{a} * 256 + b];
        ++first_[a];
      }
    }
  }

  // Mean of -log p(target | token), nat per byte.
  [[nodiscard]] double loss(std::vector<Id> const& token,
                            std::vector<Id> const& target,
                            double smoothing) const
  {
    double sum = 0;
    for (std::size_t i = 0; i < token.size(); ++i) {
      auto const a    = static_cast<std::size_t>(token[i]);
      auto const b    = static_cast<std::size_t>(target[i]);
      double const pb = (byte_[b] + 0.5) / (bytes_ + 128);
      sum -= std::log((pair_[a * 256 + b] + smoothing * pb) / (first_[a] + smoothing));
    }
    return sum / static_cast<double>(token.size());
  }

  struct Tuned {
    double loss, smoothing;
  };
  // The smoothing that suits this text best, by golden-section search on its logarithm: the loss
  // has one minimum in it.
  [[nodiscard]] Tuned tuned(std::vector<Id> const& token, std::vector<Id> const& target) const
  {
    double const ratio = (std::sqrt(5.0) - 1) / 2;
    double low = std::log(1e-3), high = std::log(1e4);
    auto const at = [&](double log_smoothing) {
      return loss(token, target, std::exp(log_smoothing));
    };
    double a = high - ratio * (high - low), b = low + ratio * (high - low);
    double loss_a = at(a), loss_b = at(b);
    while (high - low > 1e-2) {
      if (loss_a < loss_b) {
        high   = b;
        b      = a;
        loss_b = loss_a;
        a      = high - ratio * (high - low);
        loss_a = at(a);
      } else {
        low    = a;
        a      = b;
        loss_a = loss_b;
        b      = low + ratio * (high - low);
        loss_b = at(b);
      }
    }
    return loss_a < loss_b ? Tuned{loss_a, std::exp(a)} : Tuned{loss_b, std::exp(b)};
  }

 private:
  std::vector<double> pair_;   // (256, 256)
  std::vector<double> first_;  // (256) pairs that begin with it
  std::vector<double> byte_;   // (256)
  double bytes_ = 0;
};

}  // namespace train_lm
