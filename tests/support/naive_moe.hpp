#pragma once
// A mixture of experts in double, written with plain loops from the definitions: linear gate,
// softmax, K best, SwiGLU experts, Switch's balance loss and the z-loss, and all gradients.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <vector>

#include "support/numbers.hpp"

namespace moe::test {

struct NaiveMoe {
  std::size_t T = 0, D = 0, F = 0, E = 0, K = 0;
  bool renormalize     = true;  // weights over the K chosen
  double balance_coeff = 0, z_coeff = 0;
  std::size_t slots = std::numeric_limits<std::size_t>::max();  // per expert; by position

  Numbers x, dy;                 // (T, D)
  Numbers gate, w_in, w_out;     // (E, D), (E, 2F, D), (E, D, F)
  std::vector<bool> takes_part;  // (T)

  Numbers y, dx, d_gate, d_w_in, d_w_out;
  double balance_loss = 0, z_loss = 0;
  std::vector<std::size_t> expert;  // (T, K)
  std::vector<bool> kept;           // (T, K)
  std::vector<std::size_t> load;    // (E) before drops

  void run()
  {
    y.assign(T * D, 0);
    dx.assign(T * D, 0);
    d_gate.assign(gate.size(), 0);
    d_w_in.assign(w_in.size(), 0);
    d_w_out.assign(w_out.size(), 0);
    route();
    for (std::size_t t = 0; t < T; ++t) {
      if (takes_part[t]) { token(t); }
    }
  }

 private:
  Numbers probability_, log_sum_;  // (T, E), (T)
  double live_ = 0;                // tokens that take part

  void route()
  {
    probability_.assign(T * E, 0);
    log_sum_.assign(T, 0);
    expert.assign(T * K, 0);
    kept.assign(T * K, false);
    load.assign(E, 0);
    live_ = 0;
    std::vector<std::size_t> order(E);
    Numbers z(E);
    for (std::size_t t = 0; t < T; ++t) {
      if (!takes_part[t]) { continue; }
      live_ += 1;
      for (std::size_t e = 0; e < E; ++e) {
        z[e] = 0;
        for (std::size_t d = 0; d < D; ++d) {
          z[e] += x[t * D + d] * gate[e * D + d];
        }
      }
      double const largest = *std::max_element(z.begin(), z.end());
      double sum           = 0;
      for (double const v : z) {
        sum += std::exp(v - largest);
      }
      log_sum_[t] = largest + std::log(sum);
      for (std::size_t e = 0; e < E; ++e) {
        probability_[t * E + e] = std::exp(z[e] - log_sum_[t]);
      }
      std::iota(order.begin(), order.end(), std::size_t{0});
      std::partial_sort(
          order.begin(),
          order.begin() + static_cast<std::ptrdiff_t>(K),
          order.end(),
          [&](std::size_t a, std::size_t b) { return z[a] > z[b] || (z[a] == z[b] && a < b); });
      for (std::size_t k = 0; k < K; ++k) {
        expert[t * K + k] = order[k];
        ++load[order[k]];
      }
    }
    std::vector<std::size_t> taken(E, 0);  // first choices of all tokens, then second ones, ...
    for (std::size_t k = 0; k < K; ++k) {
      for (std::size_t t = 0; t < T; ++t) {
        if (takes_part[t]) { kept[t * K + k] = taken[expert[t * K + k]]++ < slots; }
      }
    }
  }

  // One token forward and back.
  void token(std::size_t t)
  {
    double chosen = 0;
    for (std::size_t k = 0; k < K; ++k) {
      chosen += probability_[t * E + expert[t * K + k]];
    }
    Numbers weight(K), d_weight(K, 0);
    for (std::size_t k = 0; k < K; ++k) {
      weight[k] = probability_[t * E + expert[t * K + k]] / (renormalize ? chosen : 1);
      if (kept[t * K + k]) { d_weight[k] = ffn(t, expert[t * K + k], weight[k]); }
    }

    // weight -> probability of every expert, the losses' part too, -> logits -> x and gate
    Numbers d_p(E, 0);
    double dot = 0;
    for (std::size_t k = 0; k < K; ++k) {
      dot += d_weight[k] * weight[k];
    }
    for (std::size_t k = 0; k < K; ++k) {
      d_p[expert[t * K + k]] += renormalize ? (d_weight[k] - dot) / chosen : d_weight[k];
    }
    double const scale =
        balance_coeff * static_cast<double>(E) / static_cast<double>(K) / (live_ * live_);
    for (std::size_t e = 0; e < E; ++e) {
      d_p[e] += scale * static_cast<double>(load[e]);
      balance_loss += scale * static_cast<double>(load[e]) * probability_[t * E + e];
    }
    z_loss += z_coeff * log_sum_[t] * log_sum_[t] / live_;
    double mean = 0;
    for (std::size_t e = 0; e < E; ++e) {
      mean += d_p[e] * probability_[t * E + e];
    }
    for (std::size_t e = 0; e < E; ++e) {
      double const dz =
          probability_[t * E + e] * (d_p[e] - mean + 2 * z_coeff * log_sum_[t] / live_);
      for (std::size_t d = 0; d < D; ++d) {
        d_gate[e * D + d] += dz * x[t * D + d];
        dx[t * D + d] += dz * gate[e * D + d];
      }
    }
  }

  // y(t) += weight F_e(x_t), and back; returns <dy(t), F_e(x_t)>.
  double ffn(std::size_t t, std::size_t e, double weight)
  {
    double const* const in  = &w_in[e * 2 * F * D];
    double const* const out = &w_out[e * D * F];
    double const* const xt  = &x[t * D];
    double const* const g   = &dy[t * D];
    double d_weight         = 0;
    for (std::size_t f = 0; f < F; ++f) {
      double u = 0, v = 0, da = 0;
      for (std::size_t d = 0; d < D; ++d) {
        u += in[f * D + d] * xt[d];
        v += in[(F + f) * D + d] * xt[d];
        da += g[d] * out[d * F + f];
      }
      double const s = 1 / (1 + std::exp(-u)), a = u * s * v;
      d_weight += da * a;
      double const du = weight * da * v * s * (1 + u * (1 - s)), dv = weight * da * u * s;
      for (std::size_t d = 0; d < D; ++d) {
        y[t * D + d] += weight * out[d * F + f] * a;
        d_w_out[e * D * F + d * F + f] += weight * g[d] * a;
        d_w_in[e * 2 * F * D + f * D + d] += du * xt[d];
        d_w_in[e * 2 * F * D + (F + f) * D + d] += dv * xt[d];
        dx[t * D + d] += du * in[f * D + d] + dv * in[(F + f) * D + d];
      }
    }
    return d_weight;
  }
};

}  // namespace moe::test
