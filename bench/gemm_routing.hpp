#pragma once
// Random routing for the products that are measured at full size.
#include <cstddef>
#include <random>
#include <utility>
#include <vector>

#include <moe/core/view.hpp>

#include "shapes.hpp"

namespace moe_bench {

// Rows (A) of tokens' choices, by expert: which token each is, and where experts begin.
struct Routing {
  std::vector<moe::Id> token, offsets{0};

  explicit Routing(Shape const& s)
  {
    std::mt19937 random(1);
    std::vector<std::vector<moe::Id>> of_expert(static_cast<std::size_t>(s.experts));
    std::vector<std::size_t> experts(of_expert.size());
    for (std::size_t e = 0; e < experts.size(); ++e) {
      experts[e] = e;
    }
    for (moe::Id t = 0; t < static_cast<moe::Id>(s.tokens); ++t) {
      for (std::size_t k = 0; k < static_cast<std::size_t>(s.top_k); ++k) {
        std::swap(experts[k], experts[k + random() % (experts.size() - k)]);
        of_expert[experts[k]].push_back(t);
      }
    }
    for (auto const& tokens : of_expert) {
      token.insert(token.end(), tokens.begin(), tokens.end());
      offsets.push_back(static_cast<moe::Id>(token.size()));
    }
  }
};

}  // namespace moe_bench
