#pragma once
// A gate that compares directions, so that the lengths of tokens and experts do not matter.
#include <cmath>

#include <moe/exec/gemm.hpp>
#include <moe/route/gate.hpp>

namespace moe {
namespace detail {

// norm(v) = v / max(|v|, epsilon)
inline constexpr double cosine_epsilon = 1e-12;
inline constexpr double ln_100         = 4.605170185988092;

// 1 / max(sqrt(sum), epsilon)
template <RoutingScalar S>
MOE_HOST_DEVICE S inverse_norm_of(S sum)
{
  S const norm = std::sqrt(sum);
  return S{1} / (norm > static_cast<S>(cosine_epsilon) ? norm : static_cast<S>(cosine_epsilon));
}

// dv = (d - n <n, d>) / |v| for n = v / |v|. Below epsilon the divisor is constant, and the second
// term is not there: this is the factor <n, d> that it takes.
template <RoutingScalar S>
MOE_HOST_DEVICE S along(S inverse_norm, S product)
{
  return inverse_norm < static_cast<S>(1 / cosine_epsilon) ? product : S{0};
}

// p(t) = unit(t) + bias;   unit(t) = norm(p(t))
template <class T, class ExecT>
struct CosineTokenRow {
  using S = accumulator_t<T>;
  View<T const, 1, ExecT> bias;    // (M)
  View<S, 2, ExecT> unit;          // (T, M) x . P^T before
  View<S, 1, ExecT> inverse_norm;  // (T)
  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t t) const
  {
    S sum = 0;
    for (index_t m = team.lane(); m < unit.extent(1); m += team.size()) {
      S const p  = unit(t, m) + static_cast<S>(bias(m));
      unit(t, m) = p;
      sum += p * p;
    }
    S const inverse = inverse_norm_of(team.sum(sum));
    for (index_t m = team.lane(); m < unit.extent(1); m += team.size()) {
      unit(t, m) *= inverse;
    }
    if (team.lane() == 0) { inverse_norm(t) = inverse; }
  }
};

// scaled(e) = scale norm(similarity(e)),   scale = exp(min(log_scale, ln 100))
template <class T, class ExecT>
struct CosineExpertRow {
  using S = accumulator_t<T>;
  View<T const, 2, ExecT> similarity;  // (N, M)
  View<T const, 1, ExecT> log_scale;   // (1)
  View<S, 2, ExecT> scaled;            // (N, M)
  View<S, 1, ExecT> inverse_norm;      // (N)
  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t e) const
  {
    S sum = 0;
    for (index_t m = team.lane(); m < scaled.extent(1); m += team.size()) {
      S const v = static_cast<S>(similarity(e, m));
      sum += v * v;
    }
    S const inverse = inverse_norm_of(team.sum(sum));
    S const tau = static_cast<S>(log_scale(0)), most = static_cast<S>(ln_100);
    S const factor = std::exp(tau > most ? most : tau) * inverse;
    for (index_t m = team.lane(); m < scaled.extent(1); m += team.size()) {
      scaled(e, m) = static_cast<S>(similarity(e, m)) * factor;
    }
    if (team.lane() == 0) { inverse_norm(e) = inverse; }
  }
};

// From d = d_logits . scaled, the gradient of unit: that of p in its place, and that of log_scale,
// <unit, d> = <d_logits, logits>, which is zero above the bound.
template <class T, class ExecT>
struct CosineTokenBackwardRow {
  using S = accumulator_t<T>;
  View<S const, 2, ExecT> unit;          // (T, M)
  View<S const, 1, ExecT> inverse_norm;  // (T)
  View<T const, 1, ExecT> log_scale;     // (1)
  View<S, 2, ExecT> d;                   // (T, M)
  View<S, 2, ExecT> d_log_scale;         // (T, 1)
  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t t) const
  {
    S sum = 0;
    for (index_t m = team.lane(); m < d.extent(1); m += team.size()) {
      sum += unit(t, m) * d(t, m);
    }
    sum               = team.sum(sum);
    S const inverse   = inverse_norm(t);
    S const component = along(inverse, sum);
    for (index_t m = team.lane(); m < d.extent(1); m += team.size()) {
      d(t, m) = inverse * (d(t, m) - unit(t, m) * component);
    }
    bool const bounded = static_cast<S>(log_scale(0)) > static_cast<S>(ln_100);
    if (team.lane() == 0) { d_log_scale(t, 0) = bounded ? S{0} : sum; }
  }
};

// From d = d_logits^T . unit, the gradient of scaled: grad(e) += that of similarity(e)
template <class T, class G, class ExecT>
struct CosineExpertBackwardRow {
  using S = accumulator_t<T>;
  View<T const, 2, ExecT> similarity;    // (N, M)
  View<T const, 1, ExecT> log_scale;     // (1)
  View<S const, 1, ExecT> inverse_norm;  // (N)
  View<S const, 2, ExecT> d;             // (N, M)
  View<G, 2, ExecT> grad;                // (N, M)
  template <Team TeamT>
  MOE_HOST_DEVICE void operator()(TeamT team, index_t e) const
  {
    S const inverse = inverse_norm(e);
    S sum           = 0;
    for (index_t m = team.lane(); m < d.extent(1); m += team.size()) {
      sum += static_cast<S>(similarity(e, m)) * inverse * d(e, m);
    }
    S const component = along(inverse, team.sum(sum));
    S const tau = static_cast<S>(log_scale(0)), most = static_cast<S>(ln_100);
    S const factor = std::exp(tau > most ? most : tau) * inverse;
    for (index_t m = team.lane(); m < d.extent(1); m += team.size()) {
      S const unit = static_cast<S>(similarity(e, m)) * inverse;
      S const add  = factor * (d(e, m) - unit * component);
      grad(e, m)   = static_cast<G>(static_cast<S>(grad(e, m)) + add);
    }
  }
};

}  // namespace detail

// logits = <norm(P x + bias), norm(similarity(e))> exp(min(log_scale, ln 100)), where norm(v) is
// v / max(|v|, 1e-12), after Tutel's cosine_top (Chi et al. 2022); Tutel keeps `similarity`
// transposed. At the start logits are within exp(log_scale) = 2 of zero. The bound's gradient is
// that of min: none above it.
struct CosineGate {
  using kind = gate_kind;
  struct Sizes {
    index_t projection                                 = 256;  // M
    friend bool operator==(Sizes const&, Sizes const&) = default;
  };
  using Layout = GateLayout<Sizes>;

  template <class T, class ExecT>
  struct Params {
    View<T, 2, ExecT> projection;  // (M, D)
    View<T, 1, ExecT> bias;        // (M)
    View<T, 2, ExecT> similarity;  // (N, M)
    View<T, 1, ExecT> log_scale;   // (1)

    static Params carve(Carver<T, ExecT>& carver, Layout const& s)
    {
      Params p;
      p.projection = carver.take(s.own.projection, s.hidden);
      p.bias       = carver.take(s.own.projection);
      p.similarity = carver.take(s.columns, s.own.projection);
      p.log_scale  = carver.take(1);
      return p;
    }
    template <class Visit>
    void for_each(Visit visit) const
    {
      visit("gate.projection", projection, Init::normal(projection.extent(1)));
      visit("gate.bias", bias, Init::zeros());
      visit("gate.similarity", similarity, Init{.mean = 0, .variance = 0.01 * 0.01});
      visit("gate.log_scale", log_scale, Init::constant(0.6931471805599453));  // ln 2
    }
    [[nodiscard]] Layout layout() const
    {
      return {similarity.extent(0), projection.extent(1), {projection.extent(0)}};
    }
  };

  template <class T, class ExecT>
  struct Saved {
    Tensor<accumulator_t<T>, 2, ExecT> unit;            // (T, M) norm(P x + bias)
    Tensor<accumulator_t<T>, 1, ExecT> token_inverse;   // (T) 1 / max(|P x + bias|, epsilon)
    Tensor<accumulator_t<T>, 2, ExecT> scaled;          // (N, M) scale norm(similarity)
    Tensor<accumulator_t<T>, 1, ExecT> expert_inverse;  // (N) 1 / max(|similarity|, epsilon)
  };
  template <class T, class ExecT>
  struct Carry {
    Tensor<accumulator_t<T>, 2, ExecT> d_projected;  // (T, M)
    Tensor<accumulator_t<T>, 2, ExecT> d_log_scale;  // (T, 1) each token's part
    Tensor<accumulator_t<T>, 2, ExecT> d_scaled;     // (N, M)
  };
  template <class T, class ExecT>
  [[nodiscard]] Saved<T, ExecT> make_saved(ExecT const& exec, Layout const& s, index_t tokens) const
  {
    using S         = accumulator_t<T>;
    index_t const M = s.own.projection;
    return {Tensor<S, 2, ExecT>(exec, tokens, M),
            Tensor<S, 1, ExecT>(exec, tokens),
            Tensor<S, 2, ExecT>(exec, s.columns, M),
            Tensor<S, 1, ExecT>(exec, s.columns)};
  }
  template <class T, class ExecT>
  [[nodiscard]] Carry<T, ExecT> make_carry(ExecT const& exec, Layout const& s, index_t tokens) const
  {
    using S         = accumulator_t<T>;
    index_t const M = s.own.projection;
    return {Tensor<S, 2, ExecT>(exec, tokens, M),
            Tensor<S, 2, ExecT>(exec, tokens, 1),
            Tensor<S, 2, ExecT>(exec, s.columns, M)};
  }

  void check(Check const& check, Layout const& s) const
  {
    check.at_least("projection", s.own.projection, 1);
  }

  template <class ExecT, class T>
  void forward(ExecT const& exec,
               Params<T const, ExecT> const& params,
               View<StepState const, 1, ExecT>,
               View<T const, 2, ExecT> x,
               Saved<T, ExecT>& saved,
               View<accumulator_t<T>, 2, ExecT> logits) const
  {
    auto const unit = saved.unit.view(), scaled = saved.scaled.view();
    gemm(exec, Transpose::no, x, Transpose::yes, params.projection, Result::overwrite, unit);
    exec.for_each_row(
        unit.extent(0),
        detail::CosineTokenRow<T, ExecT>{params.bias, unit, saved.token_inverse.view()});
    exec.for_each_row(
        scaled.extent(0),
        detail::CosineExpertRow<T, ExecT>{
            params.similarity, params.log_scale, scaled, saved.expert_inverse.view()});
    gemm(exec, Transpose::no, unit, Transpose::yes, scaled, Result::overwrite, logits);
  }

  // d_unit = d_logits . scaled,   dx = d_projected . P
  template <class ExecT, class T>
  void backward_data(ExecT const& exec,
                     Params<T const, ExecT> const& params,
                     Saved<T, ExecT> const& saved,
                     View<StepState const, 1, ExecT>,
                     View<T const, 2, ExecT>,
                     View<accumulator_t<T> const, 2, ExecT> d_logits,
                     Carry<T, ExecT>& carry,
                     View<accumulator_t<T>, 2, ExecT> dx) const
  {
    auto const scaled = saved.scaled.const_view();
    auto const d      = carry.d_projected.view();
    gemm(exec, Transpose::no, d_logits, Transpose::no, scaled, Result::overwrite, d);
    exec.for_each_row(d.extent(0),
                      detail::CosineTokenBackwardRow<T, ExecT>{saved.unit.const_view(),
                                                               saved.token_inverse.const_view(),
                                                               params.log_scale,
                                                               d,
                                                               carry.d_log_scale.view()});
    gemm(exec, Transpose::no, d, Transpose::no, params.projection, Result::overwrite, dx);
  }
  // d_P += d_projected^T . x,   d_bias, d_log_scale += column sums,   d_similarity += ...
  template <class ExecT, class T, class G>
  void backward_weights(ExecT const& exec,
                        Params<T const, ExecT> const& params,
                        Saved<T, ExecT> const& saved,
                        View<StepState const, 1, ExecT>,
                        View<T const, 2, ExecT> x,
                        View<accumulator_t<T> const, 2, ExecT> d_logits,
                        Carry<T, ExecT>& carry,
                        Params<G, ExecT> const& grads) const
  {
    auto const unit     = saved.unit.const_view();
    auto const d        = carry.d_projected.const_view();
    auto const d_scaled = carry.d_scaled.view();
    gemm(exec, Transpose::yes, d, Transpose::no, x, Result::add, grads.projection);
    sum_rows(exec, d, Result::add, grads.bias);
    gemm(exec, Transpose::yes, d_logits, Transpose::no, unit, Result::overwrite, d_scaled);
    exec.for_each_row(
        d_scaled.extent(0),
        detail::CosineExpertBackwardRow<T, G, ExecT>{params.similarity,
                                                     params.log_scale,
                                                     saved.expert_inverse.const_view(),
                                                     d_scaled,
                                                     grads.similarity});
    sum_rows(exec, carry.d_log_scale.const_view(), Result::add, grads.log_scale);
  }
};

}  // namespace moe
