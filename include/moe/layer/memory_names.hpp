#pragma once
// What the buffers of a layer are called in a memory plan. Only names: bytes are counted where they
// are asked for, and a buffer that is not known here is called after its stage.
#include <cstdint>
#include <map>
#include <string>

#include <moe/exec/memory_meter.hpp>

namespace moe::detail {

class BufferNames {
 public:
  template <class TensorT>
  void add(TensorT const& tensor, char const* name)
  {
    if (tensor.bytes() > 0) { at_[address(tensor)] = prefix_ + name; }
  }
  // A gate, an expert kernel, its scratch or carry, and what a dispatcher keeps beside it: members
  // of the library's own by their names.
  template <class X>
  void add_state(X const& x)
  {
    if constexpr (requires { x.pre.bytes(); }) { add(x.pre, "pre-activations"); }
    if constexpr (requires { x.a.bytes(); }) { add(x.a, "activations"); }
    if constexpr (requires { x.weighted_a.bytes(); }) { add(x.weighted_a, "weighted activations"); }
    if constexpr (requires { x.d_pre.bytes(); }) { add(x.d_pre, "d pre-activations"); }
    if constexpr (requires { x.carry; }) { add_state(x.carry); }
    if constexpr (requires { x.local; }) { add_state(x.local); }
    if constexpr (requires { x.experts; }) { add_state(x.experts); }
    if constexpr (requires { x.expert; }) { add_state(x.expert); }
    if constexpr (requires { x.dx_rows.bytes(); }) { add(x.dx_rows, "dx of rows"); }
    if constexpr (requires { x.weight_rows.bytes(); }) { add(x.weight_rows, "weights of rows"); }
    if constexpr (requires { x.d_weight_rows.bytes(); }) {
      add(x.d_weight_rows, "weights of rows");
    }
    if constexpr (requires { x.x.bytes(); }) { add(x.x, "rows that arrived"); }
    if constexpr (requires { x.dy.bytes(); }) { add(x.dy, "dy that arrived"); }
    if constexpr (requires { x.dx.bytes(); }) { add(x.dx, "dx that came home"); }
    if constexpr (requires { x.weight.bytes(); }) { add(x.weight, "weights of rows"); }
    if constexpr (requires { x.offsets.bytes(); }) { add(x.offsets, "offsets"); }
    if constexpr (requires { x.trip.plan.row_of.bytes(); }) {
      add(x.trip.plan.offsets, "exchange plan");
      add(x.trip.plan.arrived_at, "exchange plan");
      add(x.trip.plan.row_of, "exchange plan");
    }
    if constexpr (requires { x.trip.assignment_at.bytes(); }) {
      add(x.trip.range, "exchange plan");
      add(x.trip.weight, "exchange plan");
      add(x.trip.row_of, "exchange plan");
      add(x.trip.offsets, "exchange plan");
      add(x.trip.assignment_at, "exchange plan");
      add(x.trip.token_at, "exchange plan");
    }
  }
  template <class X>
  void add_shared(X const& x)
  {
    prefix_ = "shared expert: ";
    add_state(x);
    prefix_.clear();
  }
  template <class RoutedT>
  void add_routed(RoutedT const& r)
  {
    add(r.logits, "logits");
    add(r.routing.expert, "ids");
    add(r.routing.weight, "weights");
    add(r.routing.offsets, "choices of tokens");
    add(r.routing.token, "choices of tokens");
    add(r.kept_weight, "renormalised weights");
    for (auto const* ids : {&r.plan.tokens_per_expert,
                            &r.plan.kept_per_expert,
                            &r.plan.expert_offsets,
                            &r.plan.slot_of,
                            &r.plan.assignment_at,
                            &r.plan.token_at,
                            &r.plan.dropped_list,
                            &r.plan.dropped_count}) {
      add(*ids, "plan");
    }
  }
  template <class SavedT>
  void add_saved(SavedT const& s)
  {
    add_routed(s);
    add_state(s.experts);
    add_shared(s.shared);
    for (auto const& load : s.loads) {
      add(load.assigned, "loads of losses");
      add(load.tokens, "loads of losses");
      add(load.live_sequences, "loads of losses");
    }
    add(s.loss_values, "losses and bad input");
    add(s.non_finite, "losses and bad input");
    add(s.invalid, "losses and bad input");
  }
  template <class WorkT>
  void add_work(WorkT const& w)
  {
    add(w.d_weight, "d weights");
    add(w.d_logits, "d logits");
    add(w.addend, "addend of dx");
    add(w.masked_x, "masked x");
    add_state(w.experts);
    add_shared(w.shared);
    add(w.blocks.partials, "gradients by blocks");
    add(w.blocks.total, "gradients by blocks");
  }

  // Empty where it has none.
  [[nodiscard]] std::string of(MeteredBlock const& block) const
  {
    auto const found = at_.find(block.address);
    return found == at_.end() ? std::string{} : found->second;
  }

 private:
  template <class TensorT>
  static std::uintptr_t address(TensorT const& tensor)
  {
    return reinterpret_cast<std::uintptr_t>(tensor.const_view().data_handle());
  }

  std::map<std::uintptr_t, std::string> at_;
  std::string prefix_;
};

}  // namespace moe::detail
