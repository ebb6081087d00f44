// More than 2^31 elements in the experts' rows, in weights and in logits, in bfloat16. Numbers are
// small and whole or powers of two, so that every sum is exact in any order and results are
// compared bit for bit.
#include "support/exact_call.hpp"

#include <doctest/doctest.h>

using namespace moe;
using namespace moe::test;

namespace {

bool enough_memory(double gibibytes)
{
  std::size_t free = 0, total = 0;
  REQUIRE(cudaMemGetInfo(&free, &total) == cudaSuccess);
  double const here = static_cast<double>(free) / (1 << 30);
  if (here < gibibytes) {
    MESSAGE("skipped: needs " << gibibytes << " GiB of GPU memory, " << here << " are free");
  }
  return here >= gibibytes;
}

// -- logits --

constexpr index_t code_bits = 10, codes = 1 << code_bits, gate_hidden = 16, gate_ffn = 8;

MOE_HOST_DEVICE index_t code_of(index_t t)
{
  return (t * 611 + t / codes) % codes;
}

// x(t) spells the number of the expert that it goes to, dy(t) follows from it too.
template <class ExecT, class T>
struct SpellRow {
  View<T, 2, ExecT> x, dy;
  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t t) const
  {
    index_t const code = code_of(t);
    for (index_t d = team.lane(); d < x.extent(1); d += team.size()) {
      x(t, d)  = T(d < code_bits ? ((code >> d & 1) != 0 ? 1.f : -1.f) : 0.5f);
      dy(t, d) = T(static_cast<float>((code * 7 + d * 3) % 11 - 5) * 0.25f);
    }
  }
};

// Of one token: another expert than spelled, or other results than those of the first token that
// spells the same.
struct SameRow {
  View<Id const, 1, Cuda> expert, first;  // (T), (codes)
  View<T16 const, 2, Cuda> y, dx;
  View<Id, 1, Cuda> bad;
  template <Team G>
  __device__ void operator()(G team, index_t t) const
  {
    index_t const like = first(code_of(t));
    Id wrong           = expert(t) != static_cast<Id>(code_of(t)) ? 1 : 0;
    for (index_t d = team.lane(); d < y.extent(1); d += team.size()) {
      float const is = dx(t, d), other = dx(like, d);
      bool const close = fabsf(is - other) <= 0.02f * fabsf(other) + 1e-3f;  // cuBLAS's sums
      wrong += y(t, d).bits == y(like, d).bits && close ? 0 : 1;
    }
    wrong = team.sum(wrong);
    if (team.lane() == 0) { bad(t) = wrong; }
  }
};

struct GateRun {
  std::vector<double> y, dx, d_gate;  // of the first `codes` tokens; d_gate of all
};

auto const switched = Layer{SwitchRouter{}, Dropless{}, BatchedDispatcher{}, Ffn<Relu>{}};

template <class T, class ExecT>
GateRun run_switched(ExecT const& exec, index_t tokens)
{
  auto params = switched.make_params<T>(
      exec, {.hidden = gate_hidden, .experts = codes, .expert = {.ffn = gate_ffn}});
  auto grads = switched.make_params<float>(exec, params.sizes());
  // Row e of the gate spells e: the logit is 10 less twice the bits that differ.
  std::vector<double> gate;
  for (index_t e = 0; e < codes; ++e) {
    for (index_t d = 0; d < gate_hidden; ++d) {
      gate.push_back(d >= code_bits ? 0 : (e >> d & 1) != 0 ? 1 : -1);
    }
  }
  auto const fill = [&](auto const& view, std::vector<double> const& values) {
    std::vector<T> elements;
    for (double const v : values) {
      elements.push_back(element<T>(number(T16(static_cast<float>(v)))));
    }
    exec.copy_from_host(view.data_handle(), elements.data(), elements.size() * sizeof(T));
  };
  auto const p = params.view();
  fill(p.gate.w, gate);
  fill(p.experts.w_in, normal_numbers(p.experts.w_in.size(), 1, 0.5));
  fill(p.experts.w_out, normal_numbers(p.experts.w_out.size(), 2, 0.5));
  Tensor<T, 2, ExecT> x(exec, tokens, gate_hidden), dy(exec, tokens, gate_hidden),
      y(exec, tokens, gate_hidden), dx(exec, tokens, gate_hidden);
  exec.for_each_row(tokens, SpellRow<ExecT, T>{x.view(), dy.view()});
  auto saved = switched.template make_saved<T>(exec, params.sizes(), tokens);
  switched.forward(exec, params, x.const_view(), y.view(), saved);
  switched.backward(exec, params, saved, x.const_view(), dy.const_view(), grads.view(), dx.view());

  std::vector<index_t> first(static_cast<std::size_t>(codes)), load(first.size());
  for (index_t t = 0; t < tokens; ++t) {
    auto const code = static_cast<std::size_t>(code_of(t));
    if (t < codes) { first[code] = t; }
    ++load[code];
  }
  auto const loads = saved.statistics(exec);
  CHECK(std::equal(load.begin(), load.end(), loads.tokens_per_expert.begin()));
  CHECK(loads.non_finite_tokens == 0);
  if constexpr (std::is_same_v<ExecT, Cuda>) {
    auto const first_of = put<Id>(exec, first, codes);
    CHECK(count_bad(exec,
                    tokens,
                    SameRow{saved.routing.expert.const_view(),
                            first_of.const_view(),
                            y.const_view(),
                            dx.const_view(),
                            {}}) == 0);
  }
  auto const head = [&](Tensor<T, 2, ExecT>& m) {
    return get_numbers(exec, View<T const, 1, ExecT>(m.view().data_handle(), codes * gate_hidden));
  };
  return {head(y), head(dx), get_numbers(exec, grads.view().gate.w)};
}

}  // namespace

TEST_CASE("experts' rows: 299,593, 299,594, 299,595 and 299,600 of 7168 columns")
{
  if (!enough_memory(14)) { return; }
  static_assert(index_t{299'593} * 7168 < index_t{1} << 31 && index_t{299'595} * 7168 > index_t{1}
                                                                                            << 31);
  check_given({37'450, 7168, 8, 8, 2048, 4, 4, 2048}, {299'593, 299'594, 299'595, 299'600});
}

TEST_CASE("weights of 2^31 elements: 512 x 4096 x 1024")
{
  if (!enough_memory(30)) { return; }
  check_given({64, 4096, 512, 1024, 512, 512, 4, 4}, {512});
}

TEST_CASE("more than 2^31 logits: 2,097,153 tokens of 1024 experts")
{
  if (!enough_memory(22)) { return; }
  constexpr index_t tokens = 2 * codes * codes + 1;
  static_assert(tokens * codes > index_t{1} << 31);
  auto const expected = run_switched<float>(Host{}, codes);
  auto got            = run_switched<T16>(Cuda{}, tokens);
  for (auto& g : got.d_gate) {
    g /= 2 * codes;  // that often is each expert spelled, one of them once more
  }
  CHECK(relative_error(got.y, expected.y) < 1e-2);
  CHECK(relative_error(got.dx, expected.dx) < 1e-2);
  CHECK(relative_error(got.d_gate, expected.d_gate) < 1e-2);
}
