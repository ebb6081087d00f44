#pragma once
// OneSidedExchange's own stores, signal and wait, for comm.cu: rows of bfloat16, as many to each
// rank, what is worked out of them once before.
#include <algorithm>
#include <vector>

#include "comm_ways.cuh"

namespace moe_bench {

class OneSided {
  using T        = moe::BFloat16;
  using Exchange = moe::OneSidedExchange<Cuda>;
  using Trip     = Exchange::Trip<T, Cuda>;

 public:
  static constexpr int moves = 1;
  OneSided(ThreadCommunicator const& comm, Buffers& buffers)
      : comm_{comm},
        buffers_{buffers},
        width_{width(buffers.part)},
        tokens_{buffers.all() / width_ / index_t{sizeof(T)}},
        routing_{buffers.exec, tokens_, tokens_, 1},
        plan_{buffers.exec, moe::SlotLayout::compact, buffers.P, tokens_, tokens_},
        exchange_{{.tokens = tokens_, .choices = tokens_}},
        trip_{worked_out()}
  {
  }
  // Rows of x and of dy in turn, which have places of their own: who has signalled a move has
  // waited for the one before. Places of rows in the experts' order, which forward works out once
  // they came, are left out.
  void operator()()
  {
    Exchange::Buffers<T, Cuda> const to{leg_};
    exchange_.pack(buffers_.exec, trip_, input(), rows(), 0, to);
    exchange_.send(buffers_.exec, comm_, trip_, 0, {moe::Leg::backward}, {moe::Leg::backward});
    leg_ = leg_ == moe::Leg::forward ? moe::Leg::backward : moe::Leg::forward;
  }

 private:
  // 8 KiB at most, a power of two that divides a part.
  static index_t width(index_t part)
  {
    index_t bytes = 8192;
    while (part % bytes != 0) {
      bytes /= 2;
    }
    return bytes / index_t{sizeof(T)};
  }
  [[nodiscard]] View<T const, 2, Cuda> rows() const
  {
    return {buffers_.sent<T>(buffers_.all()).data_handle(), {{tokens_, width_}}};
  }
  [[nodiscard]] moe::DispatchInput<T, Cuda> input() const
  {
    return {routing_.assignments(), plan_, routing_.weight.const_view(), rows()};
  }
  // An expert at each rank. Neighbouring rows go to different ones, first to the next.
  Trip worked_out()
  {
    auto const& exec = buffers_.exec;
    std::vector<moe::Id> expert(static_cast<std::size_t>(tokens_));
    for (index_t t = 0; t < tokens_; ++t) {
      expert[static_cast<std::size_t>(t)] =
          static_cast<moe::Id>((comm_.rank() + 1 + t) % buffers_.P);
    }
    exec.copy_from_host(
        routing_.expert.view().data_handle(), expert.data(), expert.size() * sizeof(moe::Id));
    exec.zero(routing_.weight.view().data_handle(), routing_.weight.bytes());
    moe::make_plan(exec,
                   moe::SelfCommunicator{},
                   moe::Dropless{},
                   moe::RoutingShape{tokens_, buffers_.P, 1},
                   routing_,
                   View<float const, 1, Cuda>{},
                   plan_);
    auto trip = exchange_.make_trip(exec, comm_, input(), 1);
    exec.synchronize();
    return trip;
  }

  ThreadCommunicator comm_;
  Buffers& buffers_;
  index_t width_, tokens_;  // D, T
  moe::Routing<float, Cuda> routing_;
  moe::RoutingPlan<Cuda> plan_;
  Exchange exchange_;
  Trip trip_;
  moe::Leg leg_ = moe::Leg::forward;
};

}  // namespace moe_bench
