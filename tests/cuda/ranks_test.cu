// A layer whose experts live at ranks that are threads with one GPU: the bits of one rank.
#include <moe/expert_parallel.hpp>
#include <moe/moe.cuh>

#include <doctest/doctest.h>

#include <cstdlib>

#include "support/cuda_resource.hpp"
#include "support/space_batch.hpp"

using moe::BFloat16, moe::Cuda, moe::index_t, moe::ThreadCommunicator, moe::ThreadWorld;
using moe::test::Batch, moe::test::GateFfnSizes, moe::test::GuardedIn, moe::test::same_bits;

namespace {

constexpr GateFfnSizes sizes{.hidden = 64, .experts = 6, .expert = {.ffn = 40}};
constexpr index_t tokens = 101;

template <class CapacityT, class DispatcherT>
auto layer_of(CapacityT capacity, DispatcherT const& dispatcher)
{
  return moe::Layer{moe::SoftmaxTopK<2, moe::renormalized>{},
                    capacity,
                    dispatcher,
                    moe::Ffn<moe::SwiGlu>{},
                    moe::SwitchLoss{.coeff = 1e-1}};
}

template <class T>
struct Pass {
  using S = moe::accumulator_t<T>;
  std::vector<T> y, evaluated, dx;
  std::vector<S> expert_grads;
};

template <class V>
void append(V& to, V const& more)
{
  to.insert(to.end(), more.begin(), more.end());
}

// One rank's part [first, first + count) of the batch. Numbers are such that logits are exact.
template <class T, class LayerT>
Pass<T> run_rank(LayerT const& layer,
                 Cuda const& exec,
                 Batch<T> const& whole,
                 index_t first,
                 index_t count,
                 moe::ExpertRange experts)
{
  using S         = moe::accumulator_t<T>;
  index_t const D = sizes.hidden;
  auto const part = [&](std::vector<T> const& v) {
    return std::vector<T>(v.begin() + first * D, v.begin() + (first + count) * D);
  };
  GuardedIn<T, Cuda> const x(exec, part(whole.x)), dy(exec, part(whole.dy));
  T const nan = moe::test::to_element<T>(std::numeric_limits<double>::quiet_NaN());
  GuardedIn<T, Cuda> const y(exec, count * D, nan), e(exec, count * D, nan),
      dx(exec, count * D, nan);
  auto const rows = [&](GuardedIn<T, Cuda> const& m) {
    return moe::View<T, 2, Cuda>(m.data(), count, D);
  };
  auto params     = layer.template make_params<T>(exec, sizes);
  auto grads      = layer.template make_params<S>(exec, sizes);
  auto const from = whole.param_views(layer);
  auto const copy = [&](auto const& all, auto const& mine, index_t at) {
    index_t const each = all.size() / all.extent(0);
    exec.copy_from_host(mine.data_handle(),
                        all.data_handle() + at * each,
                        static_cast<std::size_t>(mine.size()) * sizeof(T));
  };
  copy(from.gate.w, params.view().gate.w, 0);
  copy(from.experts.w_in, params.view().experts.w_in, experts.first);
  copy(from.experts.w_out, params.view().experts.w_out, experts.first);
  moe::LayerInput<T, Cuda> in{.x = rows(x)};
  in.first_token = first;
  auto saved     = layer.template make_saved<T>(exec, sizes, count);
  layer.evaluate(exec, params, in, rows(e));
  for (int again = 0; again < 2; ++again) {  // the state is used again
    layer.forward(exec, params, in, rows(y), saved);
  }
  layer.backward(exec, params, saved, in, rows(dy), grads.view(), rows(dx));
  layer.all_reduce_gradients(exec, grads.view());
  CHECK(y.whole());
  CHECK(dx.whole());

  Pass<T> out{y.values(), e.values(), dx.values(), {}};
  auto const w_in  = moe::test::get(exec, grads.view().experts.w_in);
  auto const w_out = moe::test::get(exec, grads.view().experts.w_out);
  for (index_t i = 0; i < experts.count; ++i) {
    for (auto const* v : {&w_in, &w_out}) {
      auto const each = static_cast<index_t>(v->size()) / experts.count;
      out.expert_grads.insert(
          out.expert_grads.end(), v->begin() + i * each, v->begin() + (i + 1) * each);
    }
  }
  return out;
}

// initcheck loses track of pool memory that several host threads ask for and give back; it is told
// so by MOE_TEST_PLAIN_MEMORY (sanitize.cmake).
Cuda rank_space(moe::test::PlainMemory& plain)
{
  bool const use_plain = std::getenv("MOE_TEST_PLAIN_MEMORY") != nullptr;
  return use_plain ? Cuda(cudaStream_t{}, {.resource = &plain}) : Cuda{};
}

template <class T, class CapacityT, class RowsT>
void check_ranks(CapacityT capacity, RowsT rows)
{
  auto const whole =
      Batch<T>::make(layer_of(capacity, moe::BatchedDispatcher<>{}), sizes, tokens, 3);
  moe::test::PlainMemory plain_of_one;
  Cuda const exec = rank_space(plain_of_one);
  auto const one  = run_rank<T>(layer_of(capacity, moe::BatchedDispatcher<moe::BatchedSchedule>{}),
                               exec,
                               whole,
                               0,
                               tokens,
                                {0, sizes.experts});
  for (int const ranks : {1, 2, 3, 4}) {
    for (bool const odd : {false, true}) {
      CAPTURE(ranks);
      CAPTURE(odd);
      std::vector<index_t> first;
      for (int r = 0; r <= ranks; ++r) {
        first.push_back(r == ranks ? tokens : odd ? r / 2 * 5 : tokens * r / ranks);
      }
      std::vector<Pass<T>> passes(static_cast<std::size_t>(ranks));
      moe::test::PlainMemory plain;
      ThreadWorld(ranks, {.deadline = std::chrono::seconds(60)})
          .run([&](ThreadCommunicator const& comm) {
            Cuda const own = rank_space(plain);
            moe::AllToAllDispatcher const dispatcher(
                comm, {}, moe::BatchedSchedule{}, moe::FlatExchange{}, rows);
            auto const r = static_cast<std::size_t>(comm.rank());
            passes[r]    = run_rank<T>(layer_of(capacity, dispatcher),
                                    own,
                                    whole,
                                    first[r],
                                    first[r + 1] - first[r],
                                    dispatcher.experts_here(sizes.experts));
          });
      Pass<T> all;
      for (auto const& p : passes) {
        append(all.y, p.y);
        append(all.evaluated, p.evaluated);
        append(all.dx, p.dx);
        append(all.expert_grads, p.expert_grads);
      }
      CHECK(same_bits(all.y, one.y));
      CHECK(same_bits(all.evaluated, one.evaluated));
      CHECK(same_bits(all.expert_grads, one.expert_grads));
      // The gate's part of dx is cuBLAS's, which may sum it in another order for other rows.
      double error = 0, norm = 0;
      REQUIRE(all.dx.size() == one.dx.size());
      for (std::size_t i = 0; i < all.dx.size(); ++i) {
        double const a = static_cast<float>(all.dx[i]), b = static_cast<float>(one.dx[i]);
        error += (a - b) * (a - b);
        norm += b * b;
      }
      CHECK(error <= (sizeof(T) == 2 ? 1e-5 : 1e-10) * norm);
    }
  }
}

}  // namespace

TEST_CASE_TEMPLATE("dropless over ranks that share a GPU", T, float, BFloat16)
{
  check_ranks<T>(moe::Dropless{}, moe::EachChoice{});
  check_ranks<T>(moe::Dropless{}, moe::OncePerRank{});
}

TEST_CASE("with a capacity that is counted over all ranks")
{
  check_ranks<float>(moe::DropByWeight{moe::CeilCapacity{.factor = 0.7}}, moe::EachChoice{});
  check_ranks<float>(moe::DropByTokenPriority{moe::CeilCapacity{.factor = 0.7}},
                     moe::OncePerRank{});
}
