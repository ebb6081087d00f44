#pragma once
// Balancing without a loss: the selection bias of ScoredTopK, moved once per step by the loads.
#include <cmath>
#include <string>

#include <moe/core/error.hpp>
#include <moe/core/team.hpp>

namespace moe {

enum class Recentre { no, yes };  // yes: the mean of the changes is taken off them (torchtitan)

namespace detail {

// sum over experts of sign(mean - count) or of count: exact in double below 2^53
template <class ExecT>
struct UpdateSelectionBiasRow {
  View<Id const, 1, ExecT> tokens_per_expert;  // (E)
  View<float, 1, ExecT> bias;                  // (E)
  float rate;
  Recentre recentre;

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t e) const
  {
    index_t const E = tokens_per_expert.extent(0);
    double total    = 0;
    for (index_t i = team.lane(); i < E; i += team.size()) {
      total += tokens_per_expert(i);
    }
    total            = team.sum(total);
    auto const under = [&](index_t i) {  // sign(mean - count), on integers
      double const above = total - static_cast<double>(E) * tokens_per_expert(i);
      return above > 0 ? 1.0 : above < 0 ? -1.0 : 0.0;
    };
    double mean = 0;
    if (recentre == Recentre::yes) {
      for (index_t i = team.lane(); i < E; i += team.size()) {
        mean += under(i);
      }
      mean = team.sum(mean) / static_cast<double>(E);
    }
    if (team.lane() == 0) { bias(e) += rate * static_cast<float>(under(e) - mean); }
  }
};

}  // namespace detail

// b_e += rate sign(mean(count) - count_e) (DeepSeek-V3; Wang et al. 2024, algorithm 1), once per
// step, with the counts of all ranks and micro-batches. tokens_per_expert (E), bias (E)
template <class ExecT>
void update_selection_bias(ExecT const& exec,
                           std::type_identity_t<View<Id const, 1, ExecT>> tokens_per_expert,
                           std::type_identity_t<View<float, 1, ExecT>> bias,
                           float rate        = 1e-3f,
                           Recentre recentre = Recentre::no)
{
  Check const check{"moe::update_selection_bias"};
  index_t const E = bias.extent(0);
  check.equal("tokens_per_expert", tokens_per_expert.extent(0), "bias", E);
  check.that(std::isfinite(rate), "rate", rate, "finite");
  check.not_null("tokens_per_expert", tokens_per_expert);
  check.not_null("bias", bias);
  exec.for_each_row(E,
                    detail::UpdateSelectionBiasRow<ExecT>{tokens_per_expert, bias, rate, recentre});
}

}  // namespace moe
