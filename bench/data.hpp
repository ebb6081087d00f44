#pragma once
// Numbers to work on: uniform, the same in every run.
#include <cmath>
#include <cstdint>
#include <vector>

#include <moe/core/tensor.hpp>
#include <moe/exec/execution_space.hpp>

namespace moe_bench {

using moe::index_t;

// In [-1, 1), from (seed, n): the finaliser of MurmurHash3 on their sum.
MOE_HOST_DEVICE inline float uniform(std::uint32_t seed, index_t n)
{
  std::uint32_t u = static_cast<std::uint32_t>(n) + seed * 0x9e3779b9u;
  u               = (u ^ (u >> 16)) * 0x85ebca6bu;
  u               = (u ^ (u >> 13)) * 0xc2b2ae35u;
  u ^= u >> 16;
  return static_cast<float>(u >> 8) * 0x1p-23f - 1.f;
}

// out(i, j) = scale (u_ij + common u_j): with a part that all rows share, tokens prefer the same
// experts, so that loads differ as they do in a model.
template <class T, class ExecT>
struct UniformRow {
  moe::View<T, 2, ExecT> out;
  std::uint32_t seed;
  float scale  = 1;
  float common = 0;

  template <moe::Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t i) const
  {
    for (index_t j = team.lane(); j < out.extent(1); j += team.size()) {
      float const u = uniform(seed, i * out.extent(1) + j) + common * uniform(seed + 1, j);
      out(i, j)     = static_cast<T>(scale * u);
    }
  }
};

// Logits of which the k largest are k draws without replacement, expert e as likely as
// 1 / (1 + place(e))^zipf: its logarithm and Gumbel noise. Places are spread over the experts.
template <class ExecT>
struct ZipfLogitsRow {
  moe::View<float, 2, ExecT> out;
  std::uint32_t seed;
  float zipf;

  template <moe::Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t i) const
  {
    index_t const E = out.extent(1);
    for (index_t e = team.lane(); e < E; e += team.size()) {
      float const u     = 0.5f * (uniform(seed, i * E + e) + 1) + 0x1p-25f;  // above 0
      auto const place  = static_cast<float>(e * 37 % E);
      float const noise = -std::log(-std::log(u < 1 ? u : 0x1.fffffep-1f));
      out(i, e)         = noise - zipf * std::log(1 + place);
    }
  }
};

template <class T, class ExecT>
void fill(ExecT const& exec,
          moe::View<T, 2, ExecT> out,
          std::uint32_t seed,
          float scale  = 1,
          float common = 0)
{
  exec.for_each_row(out.extent(0), UniformRow<T, ExecT>{out, seed, scale, common});
}
// All of a parameter block, whose size is a multiple of 64.
template <class T, class ExecT>
void fill(ExecT const& exec, moe::View<T, 1, ExecT> out, std::uint32_t seed, float scale)
{
  fill(exec, moe::View<T, 2, ExecT>(out.data_handle(), out.extent(0) / 64, 64), seed, scale);
}

template <class T, class ExecT>
[[nodiscard]] moe::Tensor<T, 2, ExecT> uniform_tensor(
    ExecT const& exec, index_t rows, index_t columns, std::uint32_t seed, float common = 0)
{
  moe::Tensor<T, 2, ExecT> x(exec, rows, columns);
  fill(exec, x.view(), seed, 1, common);
  return x;
}

template <class T, class ExecT>
[[nodiscard]] moe::Tensor<T, 1, ExecT> tensor_of(ExecT const& exec, std::vector<T> const& values)
{
  moe::Tensor<T, 1, ExecT> t(exec, static_cast<index_t>(values.size()));
  exec.copy_from_host(t.view().data_handle(), values.data(), values.size() * sizeof(T));
  return t;
}

}  // namespace moe_bench
