#pragma once
// A layer's sizes and its parameters, or their gradients, as views.
#include <concepts>

#include <moe/core/params.hpp>
#include <moe/expert/shared_expert.hpp>
#include <moe/route/gate.hpp>

namespace moe {

template <class GateSizes, class ExpertSizes, class SharedSizes>
struct LayerSizes {
  index_t hidden  = 0;  // D
  index_t experts = 0;  // E
  ExpertSizes expert{};
  GateSizes gate{};
  SharedSizes shared{};
  // Set by the layer where experts are spread over ranks: which are here. -1: all.
  index_t local_experts                                        = -1;  // L
  index_t first_expert                                         = 0;
  friend bool operator==(LayerSizes const&, LayerSizes const&) = default;

  [[nodiscard]] index_t experts_here() const
  {
    return local_experts >= 0 ? local_experts : experts;
  }
};

// The parameters of the parts that have some.
template <class RouterT, class GateT, class ExpertT, class SharedT>
struct LayerModel {
  static constexpr bool has_shared = !std::same_as<SharedT, NoSharedExpert>;

  using Sizes = LayerSizes<typename GateT::Sizes, typename ExpertT::Sizes, typename SharedT::Sizes>;

  // Views of all parameters, or of all their gradients.
  template <class T, class ExecT>
  struct Params {
    typename GateT::template Params<T, ExecT> gate;
    typename ExpertT::template Params<T, ExecT> experts;
    typename SharedT::template Params<T, ExecT> shared;
    index_t experts_of_all = -1;  // E where `experts` are those of one rank; -1: all are here
    index_t first_expert   = 0;

    static Params carve(Carver<T, ExecT>& carver, Sizes const& s)
    {
      Params p;
      p.gate    = decltype(p.gate)::carve(carver, gate_layout(s));
      p.experts = decltype(p.experts)::carve(carver, expert_layout(s));
      if constexpr (has_shared) { p.shared = decltype(p.shared)::carve(carver, shared_layout(s)); }
      if (s.local_experts >= 0) {
        p.experts_of_all = s.experts;
        p.first_expert   = s.first_expert;
      }
      return p;
    }
    template <class Visit>
    void for_each(Visit visit) const
    {
      gate.for_each(visit);
      experts.for_each([&](char const* name, auto const& view, Init init) {
        if (first_expert > 0 && view.extent(0) > 0) {
          init.first_element = first_expert * (view.size() / view.extent(0));
        }
        visit(name, view, init);
      });
      if constexpr (has_shared) { shared.for_each(visit); }
    }
    [[nodiscard]] Sizes layout() const
    {
      auto const e = experts.layout();
      Sizes s{.hidden = e.hidden, .experts = e.experts, .expert = e.own, .gate = gate.layout().own};
      if constexpr (has_shared) { s.shared = shared.layout().own; }
      if (experts_of_all >= 0) {
        s.local_experts = s.experts;
        s.experts       = experts_of_all;
        s.first_expert  = first_expert;
      }
      return s;
    }
  };

  // Views of what every rank has beside the experts.
  template <class T, class ExecT>
  struct BesideExperts {
    typename GateT::template Params<T, ExecT> gate;
    typename SharedT::template Params<T, ExecT> shared;

    static BesideExperts carve(Carver<T, ExecT>& carver, Sizes const& s)
    {
      BesideExperts p;
      p.gate = decltype(p.gate)::carve(carver, gate_layout(s));
      if constexpr (has_shared) { p.shared = decltype(p.shared)::carve(carver, shared_layout(s)); }
      return p;
    }
    template <class Visit>
    void for_each(Visit visit) const
    {
      gate.for_each(visit);
      if constexpr (has_shared) { shared.for_each(visit); }
    }
  };

  static auto gate_layout(Sizes const& s)
  {
    return GateLayout<typename GateT::Sizes>{logit_columns<RouterT>(s.experts), s.hidden, s.gate};
  }
  static auto expert_layout(Sizes const& s)
  {
    return ExpertLayout<typename ExpertT::Sizes>{s.experts_here(), s.hidden, s.expert};
  }
  static auto shared_layout(Sizes const& s)
  {
    return ExpertLayout<typename SharedT::Sizes>{1, s.hidden, s.shared};
  }
};

}  // namespace moe
