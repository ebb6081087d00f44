// Rows stored into windows of peers, between ranks that are threads: the bits of one rank, eager
// and as a captured graph. While a rank may wait on a GPU that they share, no other asks the driver
// for memory or copies from the host: all that a pass needs is there before.
#include <moe/comm/window_communicator.hpp>
#include <moe/expert_parallel.hpp>
#include <moe/moe.cuh>

#include <chrono>
#include <cstring>
#include <stdexcept>
#include <vector>

#include <doctest/doctest.h>

#include "support/layer_batch.hpp"
#include "support/rank_gpus.hpp"
#include "support/shared_gpu.hpp"
#include "support/space.hpp"

using namespace moe;
using moe::test::Batch, moe::test::cuda_of, moe::test::GateFfnSizes, moe::test::get;

namespace {

constexpr index_t tokens = 101;
ThreadWorldOptions const patient{.deadline = std::chrono::seconds(60)};
CudaOptions const own_products{.products = Products::own};

GateFfnSizes sizes_of(index_t hidden)
{
  return {.hidden = hidden, .experts = 6, .expert = {.ffn = 40}};
}

template <class CapacityT, class DispatcherT>
auto layer_of(CapacityT capacity, DispatcherT const& dispatcher)
{
  return Layer{SoftmaxTopK<2, renormalized>{},
               capacity,
               dispatcher,
               Ffn<SwiGlu>{},
               SwitchLoss{.coeff = 1e-1}};
}
using Local = BatchedDispatcher<BatchedSchedule>;
using Bytes = std::vector<unsigned char>;

// All ranks have come here, on the host.
void meet(ThreadCommunicator const& comm)
{
  int x = 1;
  comm.all_reduce_sum(Host({.threads = 1}), View<int, 1, Host>(&x, 1));
}

template <class V>
Bytes bytes_of(std::vector<V> const& v)
{
  Bytes b(v.size() * sizeof(V));
  if (!b.empty()) { std::memcpy(b.data(), v.data(), b.size()); }
  return b;
}
void append(Bytes& to, Bytes const& more)
{
  to.insert(to.end(), more.begin(), more.end());
}

// What ranks' results are together: y, evaluated y, dx and the experts' gradients.
struct Results {
  Bytes y, evaluated, dx, grads;
  void add(Results const& r)
  {
    append(y, r.y);
    append(evaluated, r.evaluated);
    append(dx, r.dx);
    append(grads, r.grads);
  }
};

// Makes the pool of a handle large enough, so that no pass asks the driver.
Cuda with_memory(Cuda const& exec)
{
  Tensor<std::byte, 1, Cuda> const all(exec, index_t{64} << 20);
  return exec;
}

// One rank's part [first, first + count) of the batch and all that its passes use.
template <class T, class LayerT>
class RankRun {
 public:
  using S = accumulator_t<T>;
  RankRun(LayerT const& layer,
          Cuda const& exec,
          Batch<T> const& whole,
          index_t first,
          index_t count,
          ExpertRange experts)
      : layer_{layer},
        exec_{exec},
        D_{whole.sizes.hidden},
        first_{first},
        experts_{experts},
        params_{layer.template make_params<T>(exec, whole.sizes)},
        grads_{layer.template make_params<S>(exec, whole.sizes)},
        x_(exec, count, D_),
        other_x_(exec, count, D_),
        dy_(exec, count, D_),
        y_(exec, count, D_),
        evaluated_(exec, count, D_),
        dx_(exec, count, D_),
        saved_{layer.template make_saved<T>(exec, whole.sizes, count)}
  {
    auto const from = whole.param_views(layer);
    auto const part = [&](auto const& all, auto const& mine, index_t at) {
      index_t const each = all.size() / all.extent(0);
      exec.copy_from_host(mine.data_handle(),
                          all.data_handle() + at * each,
                          static_cast<std::size_t>(mine.size()) * sizeof(T));
    };
    part(from.gate.w, params_.view().gate.w, 0);
    part(from.experts.w_in, params_.view().experts.w_in, experts.first);
    part(from.experts.w_out, params_.view().experts.w_out, experts.first);
    auto const rows = [&](std::vector<T> const& all, Tensor<T, 2, Cuda>& mine) {
      exec.copy_from_host(mine.view().data_handle(), all.data() + first * D_, mine.bytes());
    };
    rows(whole.x, x_);
    rows(whole.dy, other_x_);  // some other rows
    rows(whole.dy, dy_);
    exec.synchronize();
  }

  void evaluate() { layer_.evaluate(exec_, params_, input(), evaluated_.view()); }
  void forward() { layer_.forward(exec_, params_, input(), y_.view(), saved_); }
  void backward()
  {
    exec_.zero(grads_.flat().data_handle(),
               static_cast<std::size_t>(grads_.flat().size()) * sizeof(S));
    layer_.backward(exec_, params_, saved_, input(), dy_.const_view(), grads_.view(), dx_.view());
  }
  void step()
  {
    forward();
    backward();
  }
  // Later passes have the other rows in x; and again the first ones.
  void swap_x()
  {
    Tensor<T, 2, Cuda>& spare = evaluated_;
    exec_.copy(spare.view().data_handle(), x_.const_view().data_handle(), x_.bytes());
    exec_.copy(x_.view().data_handle(), other_x_.const_view().data_handle(), x_.bytes());
    exec_.copy(other_x_.view().data_handle(), spare.const_view().data_handle(), x_.bytes());
  }
  // After synchronize(), and all ranks' meeting after it.
  [[nodiscard]] Results results() const
  {
    Results r{bytes_of(get(exec_, y_.const_view())),
              bytes_of(get(exec_, evaluated_.const_view())),
              bytes_of(get(exec_, dx_.const_view())),
              {}};
    auto const in  = get(exec_, grads_.view().experts.w_in),
               out = get(exec_, grads_.view().experts.w_out);
    for (index_t e = 0; e < experts_.count; ++e) {  // expert by expert
      for (auto const* v : {&in, &out}) {
        auto const each = static_cast<std::ptrdiff_t>(v->size()) / experts_.count;
        append(r.grads,
               bytes_of(std::vector<S>(v->begin() + e * each, v->begin() + (e + 1) * each)));
      }
    }
    return r;
  }

 private:
  [[nodiscard]] LayerInput<T, Cuda> input() const
  {
    LayerInput<T, Cuda> in{.x = x_.const_view()};
    in.first_token = first_;
    return in;
  }

  LayerT const& layer_;
  Cuda exec_;
  index_t D_, first_;
  ExpertRange experts_;
  decltype(std::declval<LayerT>().template make_params<T>(std::declval<Cuda>(), {})) params_;
  mutable decltype(std::declval<LayerT>().template make_params<S>(std::declval<Cuda>(), {})) grads_;
  Tensor<T, 2, Cuda> x_, other_x_, dy_, y_, evaluated_, dx_;
  typename LayerT::template Saved<T, Cuda> saved_;
};

std::vector<index_t> first_tokens(int ranks, bool odd)
{
  std::vector<index_t> first;
  for (int r = 0; r <= ranks; ++r) {
    first.push_back(r == ranks ? tokens : odd ? r / 2 * 5 : tokens * r / ranks);
  }
  return first;
}

// program(run) at one rank that has all tokens -> its results.
template <class T, class CapacityT, class Program>
Results at_one(CapacityT capacity, Batch<T> const& whole, Program const& program)
{
  auto const layer = layer_of(capacity, Local{});
  Cuda const exec  = with_memory(Cuda(nullptr, own_products));
  RankRun<T, decltype(layer_of(capacity, Local{}))> run(
      layer, exec, whole, 0, tokens, {0, whole.sizes.experts});
  program(run);
  exec.synchronize();
  return run.results();
}

template <class T>
Batch<T> batch(index_t hidden)
{
  return Batch<T>::make(layer_of(Dropless{}, Local{}), sizes_of(hidden), tokens, 3);
}

// Two steps, the second in the first's windows, and evaluations between.
template <class RunT>
void passes(RunT& run)
{
  run.step();
  run.evaluate();
  run.swap_x();  // by way of what was evaluated
  run.forward();
  run.evaluate();
  run.backward();
}

template <class T, class CapacityT>
void check_ranks(CapacityT capacity, int chunks, index_t hidden = 64)
{
  auto const whole = batch<T>(hidden);
  auto const one   = at_one<T>(capacity, whole, [](auto& run) { passes(run); });
  for (int const P : {2, 3, 4}) {
    for (bool const odd : {false, true}) {
      CAPTURE(P);
      CAPTURE(odd);
      auto const first = first_tokens(P, odd);
      std::vector<Results> results(static_cast<std::size_t>(P));
      ThreadWorld(P, patient).run([&](ThreadCommunicator const& comm) {
        auto const r    = static_cast<std::size_t>(comm.rank());
        Cuda const exec = with_memory(cuda_of(comm, own_products));
        OneSidedExchange<Cuda> const exchange({.tokens = tokens, .choices = 2 * tokens});
        AllToAllDispatcher const dispatcher(
            comm, {.compare_calls = false, .chunks = chunks}, BatchedSchedule{}, exchange);
        auto const layer = layer_of(capacity, dispatcher);
        RankRun<T, std::decay_t<decltype(layer)>> run(layer,
                                                      exec,
                                                      whole,
                                                      first[r],
                                                      first[r + 1] - first[r],
                                                      dispatcher.experts_here(whole.sizes.experts));
        meet(comm);
        passes(run);
        exec.synchronize();
        meet(comm);
        CHECK(exchange.windows() == 2);  // of the state, and of evaluations
        results[r] = run.results();
        meet(comm);  // memory goes when nobody waits
      });
      Results all;
      for (auto const& r : results) {
        all.add(r);
      }
      CHECK(all.y == one.y);
      CHECK(all.evaluated == one.evaluated);
      CHECK(all.dx == one.dx);
      CHECK(all.grads == one.grads);
    }
  }
}

}  // namespace

TEST_CASE("ranks have the bits of one rank")
{
  check_ranks<float>(Dropless{}, 1);
  check_ranks<BFloat16>(Dropless{}, 1);
  check_ranks<float>(Dropless{}, 1, 33);  // rows that are not aligned
}

TEST_CASE("in chunks, stores beside the experts")
{
  check_ranks<float>(Dropless{}, 2);
  check_ranks<BFloat16>(Dropless{}, 3);
}

TEST_CASE("with a capacity that is counted over all ranks")
{
  check_ranks<float>(DropByWeight{CeilCapacity{.factor = 0.7}}, 1);
}

TEST_CASE("a rank that leaves by an exception ends the others with its cause")
{
  auto const whole = batch<float>(64);
  auto const run   = [&] {
    ThreadWorld(2, patient).run([&](ThreadCommunicator const& comm) {
      Cuda const exec = with_memory(cuda_of(comm, own_products));
      AllToAllDispatcher const dispatcher(
          comm,
          {.compare_calls = false},
          BatchedSchedule{},
          OneSidedExchange<Cuda>({.tokens = tokens, .choices = 2 * tokens}));
      auto const layer = layer_of(Dropless{}, dispatcher);
      RankRun<float, std::decay_t<decltype(layer)>> mine(
          layer, exec, whole, comm.rank() * 50, 50, dispatcher.experts_here(whole.sizes.experts));
      meet(comm);
      mine.step();
      exec.synchronize();
      meet(comm);
      if (comm.rank() == 1) { throw std::runtime_error("rank 1 has had enough"); }
      for (int i = 0; i < 3; ++i) {
        mine.step();
        exec.synchronize();
      }
    });
  };
  CHECK_THROWS_WITH_AS(run(), doctest::Contains("rank 1 has had enough"), std::runtime_error);
}

namespace {

// Counts go over a window as well, so that nothing in a step is the host's.
template <class T>
void check_graph(int ranks, int chunks)
{
  CAPTURE(ranks);
  CAPTURE(chunks);
  auto const whole = batch<T>(64);
  auto const first = first_tokens(ranks, /*odd*/ true);
  ThreadWorld(ranks, patient).run([&](ThreadCommunicator const& comm) {
    auto const r    = static_cast<std::size_t>(comm.rank());
    Cuda const exec = with_memory(cuda_of(comm, own_products));
    AllToAllDispatcher const dispatcher(
        WindowCommunicator(exec, comm),
        {.compare_calls = false, .chunks = chunks},
        BatchedSchedule{},
        OneSidedExchange<Cuda>({.tokens = tokens, .choices = 2 * tokens}));
    auto const layer = layer_of(Dropless{}, dispatcher);
    RankRun<T, std::decay_t<decltype(layer)>> run(layer,
                                                  exec,
                                                  whole,
                                                  first[r],
                                                  first[r + 1] - first[r],
                                                  dispatcher.experts_here(whole.sizes.experts));
    auto const quiet = [&] {
      exec.synchronize();
      meet(comm);
    };
    auto const results = [&] {
      quiet();
      auto const all = run.results();
      meet(comm);
      return all;
    };
    quiet();
    run.step();
    auto const eager = results();
    run.swap_x();
    run.step();
    auto const eager_other = results();
    CHECK((eager.y.empty() || eager.y != eager_other.y));

    cudaGraph_t graph        = nullptr;
    cudaGraphExec_t replayed = nullptr;
    MOE_CUDA_TRY(cudaStreamBeginCapture(exec.stream(), cudaStreamCaptureModeThreadLocal));
    run.step();
    MOE_CUDA_TRY(cudaStreamEndCapture(exec.stream(), &graph));
    MOE_CUDA_TRY(cudaGraphInstantiate(&replayed, graph, 0));
    MOE_CUDA_TRY(cudaGraphUpload(replayed, exec.stream()));
    quiet();  // all are made before any runs
    auto const replay = [&](Results const& expected) {
      run.swap_x();
      MOE_CUDA_TRY(cudaGraphLaunch(replayed, exec.stream()));
      auto const got = results();
      CHECK(got.y == expected.y);
      CHECK(got.dx == expected.dx);
      CHECK(got.grads == expected.grads);
    };
    for (int i = 0; i < 3; ++i) {
      replay(eager);
      replay(eager_other);
    }
    // Several in a row, which only streams and flags order.
    for (int i = 0; i < 5; ++i) {
      run.swap_x();
      MOE_CUDA_TRY(cudaGraphLaunch(replayed, exec.stream()));
    }
    auto const last = results();
    CHECK(last.y == eager.y);
    CHECK(last.dx == eager.dx);
    CHECK(last.grads == eager.grads);
    // And eager again, in the same windows.
    run.swap_x();
    run.step();
    auto const after = results();
    CHECK(after.y == eager_other.y);
    CHECK(after.dx == eager_other.dx);
    CHECK(after.grads == eager_other.grads);
    MOE_CUDA_TRY(cudaGraphExecDestroy(replayed));
    MOE_CUDA_TRY(cudaGraphDestroy(graph));
    meet(comm);
  });
}

}  // namespace

TEST_CASE("a step over ranks captured into a graph has the bits of an eager one, with other tokens")
{
  for (int const P : {2, 3, 4}) {
    check_graph<float>(P, 1);
  }
  check_graph<BFloat16>(2, 1);
  check_graph<float>(2, 2);
}
