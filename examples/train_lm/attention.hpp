#pragma once
// Causal attention with many heads. One row of work is one (sequence, head, query) on the way
// forth, and on the way back also one (sequence, head, key): every output has one writer.
#include <cmath>

#include <moe/core/team.hpp>
#include <moe/core/view.hpp>

namespace train_lm {

using moe::index_t;
using moe::Team;
using moe::View;

// B sequences of C positions, H heads of Dh: T = B C tokens, D = H Dh.
struct AttentionShape {
  index_t sequences = 0, context = 0, heads = 0, head = 0;

  [[nodiscard]] MOE_HOST_DEVICE index_t tokens() const { return sequences * context; }
  [[nodiscard]] MOE_HOST_DEVICE index_t hidden() const { return heads * head; }
  [[nodiscard]] MOE_HOST_DEVICE index_t rows() const { return sequences * heads * context; }
};

// Where row r = (sequence, head, position) lies.
struct AttentionRow {
  index_t position, channel;  // in its sequence; of its head's first column in D
  index_t first_token;        // of its sequence
  index_t first_row;          // of its (sequence, head)
  index_t first_channel_row;  // of its (sequence, head) in a matrix of channels by positions

  MOE_HOST_DEVICE AttentionRow(AttentionShape const& s, index_t r)
      : position{r % s.context},
        channel{r / s.context % s.heads * s.head},
        first_token{r / (s.context * s.heads) * s.context},
        first_row{r - position},
        first_channel_row{r / s.context * s.head}
  {
  }
};

// Keys and values once more, channels by positions: so that neighbouring lanes, which look at
// neighbouring keys, read neighbouring memory. Row (sequence, head, d).
template <class T, class ExecT>
struct TransposeKeysRow {
  AttentionShape shape;
  View<T const, 2, ExecT> qkv;  // (T, 3 D)
  View<T, 2, ExecT> keys_t;     // (B H Dh, C)
  View<T, 2, ExecT> values_t;   // (B H Dh, C)

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t row) const
  {
    index_t const D = shape.hidden(), channel = row % D;
    index_t const first = row / D * shape.context;
    for (index_t j = team.lane(); j < shape.context; j += team.size()) {
      keys_t(row, j)   = qkv(first + j, D + channel);
      values_t(row, j) = qkv(first + j, 2 * D + channel);
    }
  }
};

// prob(r) = softmax over j <= i of <q_i, k_j> / sqrt(Dh);  out_i = sum_j prob_j v_j
template <class T, class ExecT>
struct AttentionForwardRow {
  AttentionShape shape;
  View<T const, 2, ExecT> qkv;     // (T, 3 D)
  View<T const, 2, ExecT> keys_t;  // (B H Dh, C)
  View<T, 2, ExecT> prob;          // (B H C, C); behind the query undefined
  View<T, 2, ExecT> out;           // (T, D)

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t r) const
  {
    AttentionRow const at(shape, r);
    index_t const keys = at.position + 1, D = shape.hidden();
    T const scale = T{1} / std::sqrt(static_cast<T>(shape.head));
    T* const p    = &prob(r, 0);
    for (index_t j = team.lane(); j < keys; j += team.size()) {
      p[j] = 0;
    }
    for (index_t d = 0; d < shape.head; ++d) {
      T const q        = scale * qkv(at.first_token + at.position, at.channel + d);
      T const* const k = &keys_t(at.first_channel_row + d, 0);
      for (index_t j = team.lane(); j < keys; j += team.size()) {
        p[j] += q * k[j];
      }
    }
    T largest = -INFINITY;
    for (index_t j = team.lane(); j < keys; j += team.size()) {
      largest = p[j] > largest ? p[j] : largest;
    }
    largest = team.max(largest);
    T sum   = 0;
    for (index_t j = team.lane(); j < keys; j += team.size()) {
      p[j] = std::exp(p[j] - largest);
      sum += p[j];
    }
    T const inverse = T{1} / team.sum(sum);
    for (index_t j = team.lane(); j < keys; j += team.size()) {
      p[j] *= inverse;
    }
    team.sync();
    T* const o = &out(at.first_token + at.position, at.channel);
    for (index_t d = team.lane(); d < shape.head; d += team.size()) {
      o[d] = 0;
    }
    for (index_t j = 0; j < keys; ++j) {
      T const* const v = &qkv(at.first_token + j, 2 * D + at.channel);
      for (index_t d = team.lane(); d < shape.head; d += team.size()) {
        o[d] += p[j] * v[d];
      }
    }
  }
};

// d_score_j = prob_j (<d_out_i, v_j> - sum_m prob_m <d_out_i, v_m>) / sqrt(Dh)
// dq_i = sum_j d_score_j k_j
template <class T, class ExecT>
struct AttentionBackwardQueryRow {
  AttentionShape shape;
  View<T const, 2, ExecT> qkv;       // (T, 3 D)
  View<T const, 2, ExecT> values_t;  // (B H Dh, C)
  View<T const, 2, ExecT> prob;      // (B H C, C)
  View<T const, 2, ExecT> d_out;     // (T, D)
  View<T, 2, ExecT> d_score;         // (B H C, C)
  View<T, 2, ExecT> d_qkv;           // (T, 3 D): writes the part of q

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t r) const
  {
    AttentionRow const at(shape, r);
    index_t const keys = at.position + 1, D = shape.hidden();
    T const scale    = T{1} / std::sqrt(static_cast<T>(shape.head));
    T* const ds      = &d_score(r, 0);
    T const* const p = &prob(r, 0);
    for (index_t j = team.lane(); j < keys; j += team.size()) {
      ds[j] = 0;
    }
    for (index_t d = 0; d < shape.head; ++d) {
      T const g        = d_out(at.first_token + at.position, at.channel + d);
      T const* const v = &values_t(at.first_channel_row + d, 0);
      for (index_t j = team.lane(); j < keys; j += team.size()) {
        ds[j] += g * v[j];
      }
    }
    T dot = 0;
    for (index_t j = team.lane(); j < keys; j += team.size()) {
      dot += p[j] * ds[j];
    }
    dot = team.sum(dot);
    for (index_t j = team.lane(); j < keys; j += team.size()) {
      ds[j] = p[j] * (ds[j] - dot) * scale;
    }
    team.sync();
    T* const dq = &d_qkv(at.first_token + at.position, at.channel);
    for (index_t d = team.lane(); d < shape.head; d += team.size()) {
      dq[d] = 0;
    }
    for (index_t j = 0; j < keys; ++j) {
      T const* const k = &qkv(at.first_token + j, D + at.channel);
      for (index_t d = team.lane(); d < shape.head; d += team.size()) {
        dq[d] += ds[j] * k[d];
      }
    }
  }
};

// dk_j = sum_{i >= j} d_score_ij q_i,  dv_j = sum_{i >= j} prob_ij d_out_i
template <class T, class ExecT>
struct AttentionBackwardKeyRow {
  AttentionShape shape;
  View<T const, 2, ExecT> qkv;      // (T, 3 D)
  View<T const, 2, ExecT> prob;     // (B H C, C)
  View<T const, 2, ExecT> d_score;  // (B H C, C)
  View<T const, 2, ExecT> d_out;    // (T, D)
  View<T, 2, ExecT> d_qkv;          // (T, 3 D): writes the parts of k and v

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t r) const
  {
    AttentionRow const at(shape, r);
    index_t const j = at.position, D = shape.hidden();
    T* const dk = &d_qkv(at.first_token + j, D + at.channel);
    T* const dv = &d_qkv(at.first_token + j, 2 * D + at.channel);
    for (index_t d = team.lane(); d < shape.head; d += team.size()) {
      dk[d] = 0;
      dv[d] = 0;
    }
    for (index_t i = j; i < shape.context; ++i) {
      T const p = prob(at.first_row + i, j), ds = d_score(at.first_row + i, j);
      T const* const q = &qkv(at.first_token + i, at.channel);
      T const* const g = &d_out(at.first_token + i, at.channel);
      for (index_t d = team.lane(); d < shape.head; d += team.size()) {
        dk[d] += ds * q[d];
        dv[d] += p * g[d];
      }
    }
  }
};

// out (T, D) = attention(qkv (T, 3 D)); keys_t, values_t, prob are kept for the way back
template <class ExecT, class T>
void attention(ExecT const& exec,
               AttentionShape const& shape,
               std::type_identity_t<View<T const, 2, ExecT>> qkv,
               View<T, 2, ExecT> keys_t,
               View<T, 2, ExecT> values_t,
               View<T, 2, ExecT> prob,
               View<T, 2, ExecT> out)
{
  exec.for_each_row(shape.sequences * shape.hidden(),
                    TransposeKeysRow<T, ExecT>{shape, qkv, keys_t, values_t});
  exec.for_each_row(shape.rows(), AttentionForwardRow<T, ExecT>{shape, qkv, keys_t, prob, out});
}

// d_qkv (T, 3 D) =; d_score (B H C, C) is scratch
template <class ExecT, class T>
void attention_backward(ExecT const& exec,
                        AttentionShape const& shape,
                        std::type_identity_t<View<T const, 2, ExecT>> qkv,
                        std::type_identity_t<View<T const, 2, ExecT>> values_t,
                        std::type_identity_t<View<T const, 2, ExecT>> prob,
                        std::type_identity_t<View<T const, 2, ExecT>> d_out,
                        View<T, 2, ExecT> d_score,
                        View<T, 2, ExecT> d_qkv)
{
  exec.for_each_row(
      shape.rows(),
      AttentionBackwardQueryRow<T, ExecT>{shape, qkv, values_t, prob, d_out, d_score, d_qkv});
  exec.for_each_row(shape.rows(),
                    AttentionBackwardKeyRow<T, ExecT>{shape, qkv, prob, d_score, d_out, d_qkv});
}

}  // namespace train_lm
