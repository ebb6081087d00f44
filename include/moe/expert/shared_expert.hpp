#pragma once
// An expert that every token goes to, beside the routed ones.
#include <cmath>

#include <moe/exec/execution_space.hpp>
#include <moe/exec/gemm.hpp>
#include <moe/expert/gradients.hpp>

namespace moe {

struct shared_kind {};  // what tells Layer's arguments apart

struct ungated {};
struct sigmoid_gated {};

namespace detail {

template <class ExecT>
struct AllRowsRow {  // one group that holds all T rows
  View<Id, 1, ExecT> offsets;
  index_t rows;
  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t i) const
  {
    if (team.lane() == 0) { offsets(i) = static_cast<Id>(i * rows); }
  }
};

// weight(t) = sigmoid(logit(t)), or 1 where there is no gate; addend(t) = weight(t) out(t)
template <class T, class ExecT>
struct SharedAddendRow {
  using S = accumulator_t<T>;
  View<S const, 2, ExecT> logit;  // (T, 1) or empty
  View<T const, 2, ExecT> out;    // (T, D)
  View<S, 1, ExecT> weight;       // (T)
  View<S, 2, ExecT> addend;       // (T, D)
  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t t) const
  {
    S const w = logit.data_handle() == nullptr ? S{1} : S{1} / (S{1} + std::exp(-logit(t, 0)));
    if (team.lane() == 0) { weight(t) = w; }
    for (index_t d = team.lane(); d < out.extent(1); d += team.size()) {
      addend(t, d) = w * static_cast<S>(out(t, d));
    }
  }
};

// d_logit = d_weight w (1 - w); addend(t) += dx_rows(t) + d_logit(t) g
template <class T, class ExecT>
struct SharedBackwardRow {
  using S = accumulator_t<T>;
  View<T const, 2, ExecT> gate;      // (1, D) or empty
  View<S const, 1, ExecT> weight;    // (T)
  View<S const, 1, ExecT> d_weight;  // (T)
  View<T const, 2, ExecT> dx_rows;   // (T, D)
  View<S, 2, ExecT> d_logit;         // (T, 1)
  View<S, 2, ExecT> addend;          // (T, D)
  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t t) const
  {
    bool const gated = gate.data_handle() != nullptr;
    S const w        = weight(t);
    S const d        = gated ? d_weight(t) * w * (S{1} - w) : S{0};
    if (team.lane() == 0 && gated) { d_logit(t, 0) = d; }
    for (index_t i = team.lane(); i < dx_rows.extent(1); i += team.size()) {
      S const through_gate = gated ? d * static_cast<S>(gate(0, i)) : S{0};
      addend(t, i) += static_cast<S>(dx_rows(t, i)) + through_gate;
    }
  }
};

}  // namespace detail

// y(t) += F(x_t), or sigmoid(<x_t, g>) F(x_t) when gated (Qwen2-MoE). F is any expert kernel with
// one expert, so a gate's gradient is the d_weight that the kernel forms anyway.
template <class KernelT, class GateT = ungated>
struct SharedExpert {
  static_assert(HasSizes<KernelT>,
                "moe::SharedExpert: its kernel is an expert kernel, see "
                "moe/expert/expert_kernel.hpp");
  using kind                  = shared_kind;
  static constexpr bool gated = std::is_same_v<GateT, sigmoid_gated>;

  KernelT kernel{};
  GateT gate{};

  struct Sizes {
    typename KernelT::Sizes expert{};
    friend bool operator==(Sizes const&, Sizes const&) = default;
  };
  using Layout = ExpertLayout<Sizes>;  // L is 1

  template <class T, class ExecT>
  struct Params {
    typename KernelT::template Params<T, ExecT> expert;
    View<T, 2, ExecT> gate;  // (1, D), or empty when not gated

    static Params carve(Carver<T, ExecT>& carver, Layout const& sizes)
    {
      auto const own = KernelT::template Params<T, ExecT>::carve(
          carver, ExpertLayout<typename KernelT::Sizes>{1, sizes.hidden, sizes.own.expert});
      return {own, carver.take(gated ? 1 : 0, sizes.hidden)};
    }
    template <class Visit>
    void for_each(Visit visit) const
    {
      expert.for_each(visit);
      if (gated) { visit("shared gate", gate, Init::normal(gate.extent(1))); }
    }
    [[nodiscard]] Layout layout() const
    {
      auto const own = expert.layout();
      return {own.experts, own.hidden, {own.own}};
    }
  };

  template <class T, class ExecT>
  struct Saved {
    typename KernelT::template Saved<T, ExecT> expert;
    Tensor<accumulator_t<T>, 1, ExecT> weight;  // (T)
    Tensor<Id, 1, ExecT> offsets;               // (2)
  };
  template <class T, class ExecT>
  struct Carry {
    typename KernelT::template Carry<T, ExecT> expert;
    Tensor<T, 2, ExecT> dx_rows;                  // (T, D)
    Tensor<accumulator_t<T>, 1, ExecT> d_weight;  // (T)
    Tensor<accumulator_t<T>, 2, ExecT> d_logit;   // (T, 1)
  };

  template <class T, class ExecT>
  [[nodiscard]] Saved<T, ExecT> make_saved(ExecT const& exec,
                                           Layout const& sizes,
                                           index_t tokens) const
  {
    return {kernel.template make_saved<T>(exec, own(sizes), tokens),
            Tensor<accumulator_t<T>, 1, ExecT>(exec, tokens),
            Tensor<Id, 1, ExecT>(exec, 2)};
  }
  template <class T, class ExecT>
  [[nodiscard]] Carry<T, ExecT> make_carry(ExecT const& exec,
                                           Layout const& sizes,
                                           index_t tokens) const
  {
    return {kernel.template make_carry<T>(exec, own(sizes), tokens),
            Tensor<T, 2, ExecT>(exec, tokens, sizes.hidden),
            Tensor<accumulator_t<T>, 1, ExecT>(exec, tokens),
            Tensor<accumulator_t<T>, 2, ExecT>(exec, gated ? tokens : 0, 1)};
  }

  void check(Check const& check, Layout const& sizes) const
  {
    if constexpr (requires { kernel.check(check, own(sizes)); }) {
      kernel.check(check, own(sizes));
    }
  }

  // addend (T, D) = the shared expert's part of y
  template <class ExecT, class T>
  void forward(ExecT const& exec,
               Params<T const, ExecT> const& params,
               View<T const, 2, ExecT> x,
               Saved<T, ExecT>& saved,
               View<accumulator_t<T>, 2, ExecT> addend) const
  {
    using S              = accumulator_t<T>;
    index_t const tokens = x.extent(0);
    auto scratch =
        kernel.template make_scratch<T>(exec, own(params.layout()), tokens, Pass::forward);
    Tensor<T, 2, ExecT> out(exec, tokens, x.extent(1));
    Tensor<S, 2, ExecT> logit(exec, gated ? tokens : 0, 1);
    exec.for_each_row(2, detail::AllRowsRow<ExecT>{saved.offsets.view(), tokens});
    kernel.forward(exec,
                   params.expert,
                   groups(saved, tokens),
                   IndexedRows<T, ExecT>{x, {}},
                   saved.expert,
                   scratch,
                   out.view());
    if constexpr (gated) {
      gemm(exec, Transpose::no, x, Transpose::yes, params.gate, Result::overwrite, logit.view());
    }
    exec.for_each_row(tokens,
                      detail::SharedAddendRow<T, ExecT>{
                          logit.const_view(), out.const_view(), saved.weight.view(), addend});
  }

  // dx (T, D) += its part; the weights' gradients in a step of their own.
  template <class ExecT, class T>
  void backward_data(ExecT const& exec,
                     Params<T const, ExecT> const& params,
                     Saved<T, ExecT> const& saved,
                     View<T const, 2, ExecT> x,
                     View<T const, 2, ExecT> dy,
                     Carry<T, ExecT>& carry,
                     View<accumulator_t<T>, 2, ExecT> dx) const
  {
    kernel.backward_data(exec,
                         params.expert,
                         saved.expert,
                         groups(saved, x.extent(0)),
                         IndexedRows<T, ExecT>{x, {}},
                         IndexedRows<T, ExecT>{dy, {}},
                         saved.weight.const_view(),
                         carry.expert,
                         carry.dx_rows.view(),
                         carry.d_weight.view());
    exec.for_each_row(x.extent(0),
                      detail::SharedBackwardRow<T, ExecT>{params.gate,
                                                          saved.weight.const_view(),
                                                          carry.d_weight.const_view(),
                                                          carry.dx_rows.const_view(),
                                                          carry.d_logit.view(),
                                                          dx});
  }
  template <class ExecT, class T, class GradsT>
  void backward_weights(ExecT const& exec,
                        Saved<T, ExecT> const& saved,
                        View<T const, 2, ExecT> x,
                        View<T const, 2, ExecT> dy,
                        Carry<T, ExecT>& carry,
                        GradsT const& grads,
                        Result result = Result::add) const
  {
    detail::backward_kernel_weights<T>(
        detail::start_gradients<KernelT, T>(exec, grads.expert, result),
        kernel,
        exec,
        saved.expert,
        groups(saved, x.extent(0)),
        IndexedRows<T, ExecT>{x, {}},
        IndexedRows<T, ExecT>{dy, {}},
        saved.weight.const_view(),
        carry.expert,
        grads.expert);
    if constexpr (gated) {
      gemm(exec, Transpose::yes, carry.d_logit.const_view(), Transpose::no, x, result, grads.gate);
    }
  }

 private:
  static ExpertLayout<typename KernelT::Sizes> own(Layout const& sizes)
  {
    return {1, sizes.hidden, sizes.own.expert};
  }
  template <class T, class ExecT>
  static RowGroups<ExecT> groups(Saved<T, ExecT> const& saved, index_t tokens)
  {
    return {saved.offsets.const_view(), {}, tokens, 0, 1};
  }
};

template <class K>
SharedExpert(K) -> SharedExpert<K>;
template <class K, class G>
SharedExpert(K, G) -> SharedExpert<K, G>;

// For a layer without one.
struct NoSharedExpert {
  using kind = shared_kind;
  struct Sizes {
    friend bool operator==(Sizes const&, Sizes const&) = default;
  };
  template <class T, class ExecT>
  struct Params {};
};

}  // namespace moe
