#pragma once
// The one-sided exchange's stores alone: windows of P ranks that all lie in this space's memory, as
// rank 0 stores into them. Every rank has the same batch; nothing is signalled or waited for.
#include <algorithm>
#include <cstdint>
#include <vector>

#include <moe/dispatch/one_sided_rows.hpp>
#include <moe/plan/routing_plan.hpp>

#include "data.hpp"

namespace moe_bench {

template <class ExecT, class T>
class OneSidedCase {
  using Id = moe::Id;

 public:
  OneSidedCase(ExecT const& exec,
               int ranks,
               moe::TokenAssignments<ExecT> assignments,
               moe::RoutingPlan<ExecT> const& plan,
               moe::View<float const, 1, ExecT> weight,
               index_t D)
      : exec_{exec},
        P{ranks},
        assignments_{assignments},
        at_{P,
            assignments.tokens,
            assignments.count,
            plan.kept_per_expert.extent(0),
            D,
            sizeof(T),
            sizeof(float)},
        L{moe::detail::part_of(at_.experts, P, 0).count},
        windows_(exec, P, static_cast<index_t>(at_.bytes)),
        memory_(exec, P),
        status_(exec, 1),
        goes_to_(exec, at_.choices),
        offsets_(exec, L + 1),
        home_at_(exec, P * at_.choices)
  {
    exec.zero(windows_.view().data_handle(), windows_.bytes());
    exec.zero(status_.view().data_handle(), status_.bytes());
    std::vector<std::byte*> memory;
    for (index_t r = 0; r < P; ++r) {
      memory.push_back(windows_.view().data_handle() + r * windows_.extent(1));
    }
    exec.copy_from_host(
        memory_.view().data_handle(), memory.data(), memory.size() * sizeof(std::byte*));
    work_out(plan, weight);
  }

  // Rows of (T, D) that are stored, each read once however many ranks it goes to.
  [[nodiscard]] index_t rows_to_experts() const
  {
    auto const to = to_host(goes_to_);
    return std::count_if(to.begin(), to.end(), [](Id rank) { return rank >= 0; });
  }
  // (R) of the experts here
  [[nodiscard]] index_t rows_home() const { return to_host(offsets_).back(); }

  void store_to_experts(moe::View<T const, 2, ExecT> tokens) const
  {
    store_rows(exec_,
               moe::detail::StoreTokenRow<T, ExecT>{
                   memory_of(0), at_.x, assignments_, goes_to_.const_view(), 1, 0, tokens});
  }
  void store_home(moe::View<T const, 2, ExecT> rows) const
  {
    store_rows(
        exec_,
        moe::detail::StoreHomeRow<T, ExecT>{memory_of(0),
                                            offsets_.const_view(),
                                            home_at_.const_view(),
                                            0,
                                            L,
                                            std::min(P * at_.choices, moe::detail::teams_over_rows),
                                            rows});
  }

 private:
  [[nodiscard]] moe::detail::OneSidedMemory memory_of(int rank) const
  {
    return {{.memory = memory_.const_view().data_handle(),
             .status = status_.const_view().data_handle(),
             .rank   = rank,
             .size   = static_cast<int>(P)},
            at_};
  }
  // As OneSidedExchange does it.
  void work_out(moe::RoutingPlan<ExecT> const& plan, moe::View<float const, 1, ExecT> weight)
  {
    using namespace moe::detail;
    auto const slot_of = plan.slot_of.const_view(), offsets = plan.expert_offsets.const_view();
    moe::Tensor<Id, 1, ExecT> part_of(exec_, at_.choices), count(exec_, P * L), first(exec_, P),
        arrived_at(exec_, P * at_.choices);
    exec_.for_each_row(rows_of_numbers(at_.choices),
                       PartOfChoiceRow<ExecT>{slot_of, offsets, P, 1, part_of.view()});
    exec_.for_each_row(
        at_.tokens, RowGoesRow<ExecT>{assignments_, P, 1, part_of.const_view(), goes_to_.view()});
    for (int r = 0; r < P; ++r) {
      exec_.for_each_row(rows_of_numbers(std::max(at_.choices, at_.experts)),
                         StoreHeaderRow<float, ExecT>{memory_of(r),
                                                      assignments_,
                                                      slot_of,
                                                      plan.kept_per_expert.const_view(),
                                                      offsets,
                                                      weight});
    }
    exec_.for_each_row(P, CountRow<ExecT>{memory_of(0), L, count.view(), first.view()});
    index_t const teams = arrival_teams(P * at_.choices, P * L);
    exec_.for_each_row(P * L * teams,
                       OneSidedArrivalRow<ExecT>{memory_of(0),
                                                 L,
                                                 teams,
                                                 count.const_view(),
                                                 first.const_view(),
                                                 offsets_.view(),
                                                 arrived_at.view(),
                                                 home_at_.view()});
    exec_.synchronize();
  }
  [[nodiscard]] std::vector<Id> to_host(moe::Tensor<Id, 1, ExecT> const& x) const
  {
    std::vector<Id> values(static_cast<std::size_t>(x.extent(0)));
    exec_.copy_to_host(values.data(), x.const_view().data_handle(), x.bytes());
    return values;
  }

  ExecT exec_;
  index_t P;
  moe::TokenAssignments<ExecT> assignments_;
  moe::detail::OneSidedLayout at_;
  index_t L;
  moe::Tensor<std::byte, 2, ExecT> windows_;  // (P, bytes of a window)
  moe::Tensor<std::byte*, 1, ExecT> memory_;  // (P)
  moe::Tensor<std::uint32_t, 1, ExecT> status_;
  moe::Tensor<Id, 1, ExecT> goes_to_;  // (A)
  moe::Tensor<Id, 1, ExecT> offsets_;  // (L + 1)
  moe::Tensor<Id, 1, ExecT> home_at_;  // (P * A)
};

}  // namespace moe_bench
