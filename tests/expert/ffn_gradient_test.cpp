// For every activation, with and without biases: values and gradients against plain loops.
#include <moe/expert/ffn.hpp>

#include "support/expert_check.hpp"

#include <doctest/doctest.h>

#include <functional>
#include <vector>

using moe::ClampedGlu, moe::Ffn, moe::GeGlu, moe::Gelu, moe::Host, moe::Id, moe::Relu, moe::Silu,
    moe::SquaredRelu, moe::SwiGlu, moe::with_bias;
using moe::test::distance, moe::test::expert_problem, moe::test::ExpertProblem,
    moe::test::ExpertShape, moe::test::Numbers, moe::test::plain_experts, moe::test::run_experts;

namespace {

double loss(ExpertProblem const& p, Numbers const& out)
{
  double sum   = 0;
  auto const D = static_cast<std::size_t>(p.shape.D);
  for (std::size_t i = 0; i < out.size(); ++i) {
    sum += p.weight[i / D] * p.dy[i] * out[i];
  }
  return sum;
}

// Whatever the activation: a run of the kernel and the plain loops.
struct Expert {
  std::function<moe::test::ExpertOutcome(ExpertProblem const&)> run;
  std::function<Numbers(ExpertProblem const&)> plain;
};

void check_expert(Expert const& expert, ExpertProblem const& p)
{
  CAPTURE(p.shape.D);
  CAPTURE(p.shape.F);
  CAPTURE(p.shape.experts());
  auto const r = expert.run(p);
  CHECK(distance(r.out, expert.plain(p)) < 1e-13);
  CHECK(r.inferred == r.out);
  auto q           = p;
  auto const check = [&](Numbers& changed, Numbers const& gradient) {
    std::function<double(Numbers const&)> const value = [&](Numbers const& v) {
      changed = v;
      return loss(q, expert.plain(q));
    };
    auto const was = changed;
    moe::test::check_gradient(value, was, gradient);
    changed = was;
  };
  check(q.x, r.dx);
  check(q.weight, r.d_weight);
  for (std::size_t i = 0; i < p.params.size(); ++i) {
    CAPTURE(i);
    check(q.params[i], r.grads[i]);
  }
}

template <class FfnT>
void check_expert(FfnT const& ffn, ExpertShape const& s, double limit)
{
  Host const exec{{.products = moe::Products::own}};
  check_expert(Expert{[&](auto const& p) { return run_experts<double, double>(exec, ffn, p); },
                      [&](auto const& p) { return plain_experts(ffn, p); }},
               expert_problem(ffn, s, limit));
}

template <class A>
void check_activation(A const& a, double limit = 7)
{
  for (auto const& counts : {std::vector<Id>{5}, {3, 2}, {2, 0, 3, 1, 1}}) {
    check_expert(Ffn<A>{.activation = a}, {3, 5, counts}, limit);
    check_expert(Ffn<A, with_bias>{.activation = a}, {5, 3, counts}, limit);
  }
  check_expert(Ffn<A, with_bias>{.activation = a}, {1, 1, {3, 4}}, limit);
  check_expert(
      Ffn<A, with_bias>{.activation = a}, {2, 65, {2}}, limit);  // more columns than at a time
}

}  // namespace

TEST_CASE("an FFN is plain loops, its gradients central differences, for every activation")
{
  check_activation(Relu{});
  check_activation(SquaredRelu{});
  check_activation(Gelu{});
  check_activation(Silu{});
  check_activation(SwiGlu{});
  check_activation(GeGlu{});
  check_activation(ClampedGlu{});
  check_activation(ClampedGlu{.alpha = 1.3, .limit = 0.8}, 0.8);  // clamps at work
}
