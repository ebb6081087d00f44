#pragma once
// The random numbers of a router: functions of (seed, step, token, column), so that they do not
// depend on how rows are spread over threads, ranks or micro-batches, and backward can draw them
// again. Layers that share a seed draw the same numbers: give each its own.
#include <moe/core/random.hpp>
#include <moe/route/router.hpp>

namespace moe {

// The four words of one place; places differ as long as token and step are below 2^48.
MOE_HOST_DEVICE constexpr Array<std::uint32_t, 4> random_bits(RowContext const& ctx, Id column)
{
  auto const token = static_cast<std::uint64_t>(ctx.token);
  auto const step  = ctx.step.step;
  auto const seed  = ctx.step.seed;
  return philox4x32(
      {{static_cast<std::uint32_t>(column),
        static_cast<std::uint32_t>(token),
        static_cast<std::uint32_t>(step),
        static_cast<std::uint32_t>(((token >> 32) & 0xffffu) | ((step >> 32) << 16))}},
      {{static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)}});
}

// Uniform on (0, 1).
template <RoutingScalar S>
MOE_HOST_DEVICE constexpr S random_uniform(RowContext const& ctx, Id column)
{
  auto const bits = random_bits(ctx, column);
  return uniform_from<S>(bits[0], bits[1]);
}

// Standard normal.
template <RoutingScalar S>
MOE_HOST_DEVICE S random_normal(RowContext const& ctx, Id column)
{
  return normal_from<S>(random_bits(ctx, column));
}

}  // namespace moe
