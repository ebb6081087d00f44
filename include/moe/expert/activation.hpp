#pragma once
// Contract and models: what an FFN puts between its two products, element by element.
#include <cmath>
#include <concepts>
#include <cstdint>

#include <moe/core/element.hpp>
#include <moe/core/view.hpp>

namespace moe {

// An activation reads `arity` pre-activations (1, or gate and up) and gives one number:
//   a(z)              Array<S, arity> -> S
//   a.backward(z, d)  d times the gradient with respect to z
// Ffn<YourActivation> is all it takes to add one: every space runs it column by column, on sm_90a
// in the epilogues of the products, with the same bits.
template <class A>
concept HasArity = requires {
  { A::arity } -> std::convertible_to<int>;
} && (A::arity == 1 || A::arity == 2);

template <class A>
concept HasActivationValue = requires(A const a, Array<float, A::arity> const z) {
  { a(z) } -> std::same_as<float>;
};

template <class A>
concept HasActivationBackward = requires(A const a, Array<float, A::arity> const z, float d) {
  { a.backward(z, d) } -> std::same_as<Array<float, A::arity>>;
};

template <class A>
concept Activation = std::is_trivially_copyable_v<A> && HasArity<A> && HasActivationValue<A> &&
                     HasActivationBackward<A>;

namespace detail {

// 1 / (1 + exp(-z)). In float without calls and branches, so that loops over columns become
// vectors: exp(-z) = 2^n exp(r), |r| <= ln 2 / 2, and a polynomial for exp(r). Relative error below
// 3e-7 for |z| <= 87, and for z < -88 it stays at 2^-127, which z * logistic(z) does not show. NaN
// stays NaN.
template <RoutingScalar S>
[[gnu::always_inline]] MOE_HOST_DEVICE inline S logistic(S z)
{
  if constexpr (std::is_same_v<S, float>) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    // The GPU's own exp2 and reciprocal, two instructions: relative error below 4e-7 + 8e-8 |z|.
    float x = 0, power = 0, s = 0;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(x) : "f"(z), "f"(-87.f));
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x * -1.44269504f));
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(s) : "f"(1.f + power));
    return s;
#else
    // x = -z, at most 88 in magnitude: with integers, as every compiler makes vectors of those.
    auto const bits         = bit_cast<std::int32_t>(z);
    std::int32_t const size = bits & 0x7fffffff, limit = 0x42b00000;
    std::int32_t const large = -static_cast<std::int32_t>(size > limit);
    std::int32_t const nan   = -static_cast<std::int32_t>(size > 0x7f800000);
    auto const x = bit_cast<float>((~bits & ~0x7fffffff) | (size & ~large) | (limit & large) | nan);
    // Adding 1.5 * 2^23 rounds to an integer, which the low bits of the sum then hold.
    constexpr float rounds = 12582912.f;
    float const shifted    = x * 1.44269504f + rounds;
    float const n          = shifted - rounds;
    float const r          = (x - n * 0.693359375f) + n * 2.12194440e-4f;  // ln 2 in two parts
    float p                = 1.f / 720.f;
    p                      = p * r + 1.f / 120.f;
    p                      = p * r + 1.f / 24.f;
    p                      = p * r + 1.f / 6.f;
    p                      = p * r + 0.5f;
    p                      = p * r + 1.f;
    p                      = p * r + 1.f;
    auto const scale       = (bit_cast<std::uint32_t>(shifted) + 127u) << 23;  // 2^n
    return 1.f / (1.f + p * bit_cast<float>(scale));
#endif
  } else {
    return S{1} / (S{1} + std::exp(-z));
  }
}

}  // namespace detail

struct Relu {
  static constexpr int arity = 1;
  template <RoutingScalar S>
  MOE_HOST_DEVICE S operator()(Array<S, 1> z) const
  {
    return z[0] > 0 ? z[0] : S{0};
  }
  template <RoutingScalar S>
  MOE_HOST_DEVICE Array<S, 1> backward(Array<S, 1> z, S d) const
  {
    return {{z[0] > 0 ? d : S{0}}};
  }
};

// max(z, 0)^2 (Primer, So et al. 2021)
struct SquaredRelu {
  static constexpr int arity = 1;
  template <RoutingScalar S>
  MOE_HOST_DEVICE S operator()(Array<S, 1> z) const
  {
    return z[0] > 0 ? z[0] * z[0] : S{0};
  }
  template <RoutingScalar S>
  MOE_HOST_DEVICE Array<S, 1> backward(Array<S, 1> z, S d) const
  {
    return {{z[0] > 0 ? S{2} * z[0] * d : S{0}}};
  }
};

// z Phi(z), with the error function (Hendrycks & Gimpel 2016), not its tanh approximation
struct Gelu {
  static constexpr int arity = 1;
  template <RoutingScalar S>
  MOE_HOST_DEVICE S operator()(Array<S, 1> z) const
  {
    return z[0] * cdf(z[0]);
  }
  // Phi(z) + z phi(z)
  template <RoutingScalar S>
  MOE_HOST_DEVICE Array<S, 1> backward(Array<S, 1> z, S d) const
  {
    S const density = S(0.3989422804014327) * std::exp(S(-0.5) * z[0] * z[0]);
    return {{d * (cdf(z[0]) + z[0] * density)}};
  }

 private:
  template <RoutingScalar S>
  MOE_HOST_DEVICE static S cdf(S z)
  {
    return S(0.5) * std::erfc(S(-0.7071067811865476) * z);
  }
};

// z sigmoid(z) (Swish; Ramachandran et al. 2017)
struct Silu {
  static constexpr int arity = 1;
  template <RoutingScalar S>
  MOE_HOST_DEVICE S operator()(Array<S, 1> z) const
  {
    return z[0] * detail::logistic(z[0]);
  }
  // s (1 + z (1 - s))
  template <RoutingScalar S>
  MOE_HOST_DEVICE Array<S, 1> backward(Array<S, 1> z, S d) const
  {
    S const s = detail::logistic(z[0]);
    return {{d * s * (S{1} + z[0] * (S{1} - s))}};
  }
};

// act(gate) up (Shazeer 2020)
template <class ActivationT>
struct Glu {
  static_assert(ActivationT::arity == 1, "moe::Glu: its activation reads one number");
  static constexpr int arity = 2;
  ActivationT gate{};

  template <RoutingScalar S>
  MOE_HOST_DEVICE S operator()(Array<S, 2> z) const
  {
    return gate(Array<S, 1>{{z[0]}}) * z[1];
  }
  template <RoutingScalar S>
  MOE_HOST_DEVICE Array<S, 2> backward(Array<S, 2> z, S d) const
  {
    Array<S, 1> const g{{z[0]}};
    return {{gate.backward(g, d * z[1])[0], d * gate(g)}};
  }
};
using SwiGlu = Glu<Silu>;
using GeGlu  = Glu<Gelu>;

// GPT-OSS: (clamp(u, -limit, limit) + 1) g sigmoid(alpha g), g = min(gate, limit)
struct ClampedGlu {
  static constexpr int arity = 2;
  double alpha               = 1.702;
  double limit               = 7;

  template <RoutingScalar S>
  MOE_HOST_DEVICE S operator()(Array<S, 2> z) const
  {
    S const g = clamped_gate(z[0]);
    return (clamped_up(z[1]) + S{1}) * g * detail::logistic(static_cast<S>(alpha) * g);
  }
  template <RoutingScalar S>
  MOE_HOST_DEVICE Array<S, 2> backward(Array<S, 2> z, S d) const
  {
    S const a = static_cast<S>(alpha), most = static_cast<S>(limit);
    S const g = clamped_gate(z[0]), u = clamped_up(z[1]) + S{1};
    S const s = detail::logistic(a * g);
    return {{z[0] > most ? S{0} : d * u * s * (S{1} + a * g * (S{1} - s)),
             z[1] > most || z[1] < -most ? S{0} : d * g * s}};
  }

 private:
  template <RoutingScalar S>
  [[nodiscard]] MOE_HOST_DEVICE S clamped_gate(S g) const
  {
    return g > static_cast<S>(limit) ? static_cast<S>(limit) : g;
  }
  template <RoutingScalar S>
  [[nodiscard]] MOE_HOST_DEVICE S clamped_up(S u) const
  {
    S const most = static_cast<S>(limit);
    return u > most ? most : u < -most ? -most : u;
  }
};

static_assert(Activation<Relu> && Activation<SquaredRelu> && Activation<Gelu> && Activation<Silu>);
static_assert(Activation<SwiGlu> && Activation<GeGlu> && Activation<ClampedGlu>);

}  // namespace moe
