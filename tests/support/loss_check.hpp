#pragma once
// The losses over a batch, as their papers write them, beside the library's stage.
#include <moe/exec/host.hpp>
#include <moe/exec/host/sort.hpp>
#include <moe/exec/host/sum_rows.hpp>
#include <moe/route/balance_loss.hpp>
#include <moe/route/loss_stage.hpp>
#include <support/route_check.hpp>

namespace moe::test {

// A routed batch: T tokens in B sequences, N >= E columns of logits.
struct RoutedBatch {
  std::size_t tokens, experts, top_k, sequences, columns;
  std::vector<double> logits;      // (T, N)
  std::vector<Id> expert;          // (T, K), -1 where the token takes no part
  std::vector<std::uint8_t> mask;  // (T) or empty

  [[nodiscard]] bool live(std::size_t t) const { return mask.empty() || mask[t] != 0; }
  void set_mask(std::vector<std::uint8_t> m)
  {
    mask = std::move(m);
    for (std::size_t a = 0; a < expert.size(); ++a) {
      if (!live(a / top_k)) { expert[a] = no_expert; }
    }
  }
  [[nodiscard]] std::vector<double> row(std::size_t t) const  // the first E columns
  {
    auto const at = logits.begin() + static_cast<std::ptrdiff_t>(t * columns);
    return {at, at + static_cast<std::ptrdiff_t>(experts)};
  }
};

// Random logits, and K random experts for each token, unevenly: the last expert gets nothing.
inline RoutedBatch random_batch(std::size_t tokens,
                                std::size_t experts,
                                std::size_t top_k,
                                std::size_t sequences = 1,
                                unsigned seed         = 1)
{
  RoutedBatch b{tokens, experts, top_k, sequences, experts, {}, {}, {}};
  b.logits = uniform_numbers(tokens * experts, seed, -2, 2);
  std::mt19937 random(seed + 1);
  std::size_t const used = std::max(top_k, experts - 1);
  for (std::size_t t = 0; t < tokens; ++t) {
    std::vector<Id> all(used);
    std::iota(all.begin(), all.end(), 0);
    std::shuffle(all.begin() + static_cast<std::ptrdiff_t>(t % 2), all.end(), random);
    b.expert.insert(b.expert.end(), all.begin(), all.begin() + static_cast<std::ptrdiff_t>(top_k));
  }
  return b;
}

// coeff factor mean_b sum_e (load_be / tokens_b) mean_{t of b} q_te, over sequences with a token.
struct NaiveBalance {
  double factor;
  bool first_only = false, per_sequence = false, sigmoid = false;

  [[nodiscard]] double operator()(RoutedBatch const& b, double coeff) const
  {
    std::size_t const sequences = per_sequence ? b.sequences : 1;
    std::size_t const length    = b.tokens / sequences;
    double total = 0, live_sequences = 0;
    for (std::size_t s = 0; s < sequences; ++s) {
      std::vector<double> load(b.experts), q_sum(b.experts);
      double live = 0;
      for (std::size_t t = s * length; t < (s + 1) * length; ++t) {
        if (!b.live(t)) { continue; }
        ++live;
        for (std::size_t k = 0; k < (first_only ? 1 : b.top_k); ++k) {
          ++load[static_cast<std::size_t>(b.expert[t * b.top_k + k])];
        }
        auto q = softmax_of(b.row(t));
        if (sigmoid) {
          q = b.row(t);
          std::transform(
              q.begin(), q.end(), q.begin(), [](double z) { return 1 / (1 + std::exp(-z)); });
          double const sum = std::accumulate(q.begin(), q.end(), 0.0);
          std::transform(q.begin(), q.end(), q.begin(), [&](double x) { return x / sum; });
        }
        for (std::size_t e = 0; e < b.experts; ++e) {
          q_sum[e] += q[e];
        }
      }
      if (live == 0) { continue; }
      ++live_sequences;
      for (std::size_t e = 0; e < b.experts; ++e) {
        total += load[e] / live * q_sum[e] / live;
      }
    }
    return live_sequences == 0 ? 0 : coeff * factor * total / live_sequences;
  }
};

inline double naive_z_loss(RoutedBatch const& b, double coeff)
{
  double sum = 0, live = 0;
  for (std::size_t t = 0; t < b.tokens; ++t) {
    if (!b.live(t)) { continue; }
    double exps = 0;
    for (double const z : b.row(t)) {
      exps += std::exp(z);
    }
    sum += std::log(exps) * std::log(exps);
    ++live;
  }
  return live == 0 ? 0 : coeff * sum / live;
}

// The library's: the value, and what it adds to d_logits.
template <class S>
struct LossResult {
  S value;
  std::vector<S> d_logits;  // (T, N)
};

template <class S, BalanceLoss LossT, class CommT = SelfCommunicator>
LossResult<S> evaluate_loss(LossT const& loss,
                            RoutedBatch const& b,
                            double loss_scale = 1,
                            CommT const& comm = {})
{
  Host const exec{{.threads = 2, .products = Products::own}};
  auto const T = static_cast<index_t>(b.tokens), E = static_cast<index_t>(b.experts);
  auto const K = static_cast<int>(b.top_k);
  std::vector<StepState> const step{{.loss_scale = loss_scale}};
  RoutingInput<S, Host> in{.tokens = T, .experts = E, .step = as_list(step)};
  if (!b.mask.empty()) { in.mask = as_list(b.mask); }

  Routing<S, Host> routing(exec, T, T * K, K);
  std::copy(b.expert.begin(), b.expert.end(), routing.expert.view().data_handle());
  index_t const sequences =
      LossT::scope == LoadScope::sequence ? static_cast<index_t>(b.sequences) : 1;
  Load<S, Host> load(exec, sequences, E);
  count_load<LossT>(exec, comm, in, routing, load);

  std::vector<S> const logits(b.logits.begin(), b.logits.end());
  auto const z = as_matrix(logits, T, static_cast<index_t>(b.columns));
  LossResult<S> result{not_a_number, std::vector<S>(logits.size(), S(0.25))};
  loss_value(exec, loss, in, z, load, K, View<S, 1, Host>(&result.value, 1));
  loss_backward(exec, loss, in, z, load, K, as_matrix(result.d_logits, T, z.extent(1)));
  for (S& d : result.d_logits) {
    d -= S(0.25);
  }
  return result;
}

}  // namespace moe::test
