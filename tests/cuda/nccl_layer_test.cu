// A layer whose experts live at processes with NCCL between them: each has, for its tokens and its
// experts, the bits of one rank with all of both.
#include "support/cuda_rank_layer.hpp"
#include "support/nccl_loss.hpp"

using namespace moe;
using namespace moe::test;
using namespace moe::test::rank_layer;

namespace {

// As long as `like`.
template <class T>
std::vector<T> part_of(std::vector<T> const& all, std::size_t at, std::vector<T> const& like)
{
  REQUIRE(at + like.size() <= all.size());
  return {all.begin() + static_cast<std::ptrdiff_t>(at),
          all.begin() + static_cast<std::ptrdiff_t>(at + like.size())};
}
template <class T>
bool begins_at(std::vector<T> const& all, std::size_t at, std::vector<T> const& part)
{
  return same_bits(part_of(all, at, part), part);
}

template <class T, class CapacityT, class RowsT>
void check_part(NcclCommunicator const& comm, Cuda const& exec, CapacityT capacity, RowsT rows)
{
  auto const whole = Batch<T>::make(layer_of(capacity, BatchedDispatcher<>{}), sizes, tokens, 3);
  auto const one   = run_rank<T>(layer_of(capacity, BatchedDispatcher<BatchedSchedule>{}),
                               exec,
                               whole,
                               0,
                               tokens,
                                 {0, sizes.experts});
  AllToAllDispatcher const dispatcher(comm, {}, BatchedSchedule{}, FlatExchange{}, rows);
  index_t const first = tokens * comm.rank() / comm.size();
  index_t const last  = tokens * (comm.rank() + 1) / comm.size();
  auto const experts  = dispatcher.experts_here(sizes.experts);
  auto const mine =
      run_rank<T>(layer_of(capacity, dispatcher), exec, whole, first, last - first, experts);
  auto const at   = static_cast<std::size_t>(first * sizes.hidden);
  auto const each = one.expert_grads.size() / static_cast<std::size_t>(sizes.experts);
  CHECK(!mine.y.empty());
  CHECK(begins_at(one.y, at, mine.y));
  CHECK(begins_at(one.evaluated, at, mine.evaluated));
  if (exec.products() == Products::own) {
    CHECK(begins_at(one.dx, at, mine.dx));
  } else {  // the gate's part is cuBLAS's, which may sum it in another order for other rows
    CHECK(near(part_of(one.dx, at, mine.dx), mine.dx));
  }
  CHECK(begins_at(
      one.expert_grads, each * static_cast<std::size_t>(experts.first), mine.expert_grads));
}

}  // namespace

TEST_CASE("rank of a layer" * doctest::skip())
{
  ProcessRank const me({.deadline = std::chrono::seconds(60)});
  auto const& [rank, size, exec, comm] = me;
  Cuda const own                       = exec.with_own_products();
  check_part<BFloat16>(comm, own, Dropless{}, EachChoice{});
  check_part<float>(comm, own, Dropless{}, OncePerRank{});
  check_part<float>(comm, exec, DropByWeight{CeilCapacity{.factor = 0.7}}, EachChoice{});
}

TEST_CASE("a layer over two, three and four processes")
{
  for (int const P : {2, 3, 4}) {
    CAPTURE(P);
    CHECK(run_processes(P, "rank of a layer") == std::vector<int>(static_cast<std::size_t>(P), 0));
  }
}

namespace {

void check_layer_without_last(int signal)
{
  ProcessRank const me(loss_options);
  AllToAllDispatcher const dispatcher(me.comm);
  auto const layer = layer_of(Dropless{}, dispatcher);
  auto const whole =
      Batch<float>::make(layer_of(Dropless{}, BatchedDispatcher<>{}), sizes, tokens, 3);
  index_t const first = tokens * me.rank / me.size, last = tokens * (me.rank + 1) / me.size;
  check_loss_of_last(me, signal, [&] {
    auto const pass = run_rank<float>(
        layer, me.exec, whole, first, last - first, dispatcher.experts_here(sizes.experts));
    CHECK(!pass.y.empty());
  });
}

}  // namespace

TEST_CASE("rank of a layer that loses one" * doctest::skip())
{
  check_layer_without_last(SIGKILL);
}
TEST_CASE("rank of a layer that stops one" * doctest::skip())
{
  check_layer_without_last(SIGSTOP);
}

TEST_CASE("a layer ends with an error when a process is killed, and when one stands still")
{
  check_ends_of_two("rank of a layer that loses one", "rank of a layer that stops one");
}
