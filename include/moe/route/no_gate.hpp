#pragma once
// For routing that the caller gives: no logits, no parameters.
#include <moe/route/gate.hpp>

namespace moe {

struct NoGate {
  using kind                    = gate_kind;
  static constexpr bool reads_x = false;
  struct Sizes {
    friend bool operator==(Sizes const&, Sizes const&) = default;
  };

  template <class T, class ExecT>
  struct Params {
    static Params carve(Carver<T, ExecT>&, GateLayout<Sizes> const&) { return {}; }
    template <class Visit>
    void for_each(Visit) const
    {
    }
    [[nodiscard]] GateLayout<Sizes> layout() const { return {}; }
  };
  template <class T, class ExecT>
  struct Saved {};
  template <class T, class ExecT>
  struct Carry {};
  template <class T, class ExecT>
  [[nodiscard]] Saved<T, ExecT> make_saved(ExecT const&, GateLayout<Sizes> const&, index_t) const
  {
    return {};
  }
  template <class T, class ExecT>
  [[nodiscard]] Carry<T, ExecT> make_carry(ExecT const&, GateLayout<Sizes> const&, index_t) const
  {
    return {};
  }

  template <class ExecT, class T>
  void forward(ExecT const&,
               Params<T const, ExecT> const&,
               View<StepState const, 1, ExecT>,
               View<T const, 2, ExecT>,
               Saved<T, ExecT>&,
               View<accumulator_t<T>, 2, ExecT>) const
  {
  }
  template <class ExecT, class T>
  void backward_data(ExecT const& exec,
                     Params<T const, ExecT> const&,
                     Saved<T, ExecT> const&,
                     View<StepState const, 1, ExecT>,
                     View<T const, 2, ExecT>,
                     View<accumulator_t<T> const, 2, ExecT>,
                     Carry<T, ExecT>&,
                     View<accumulator_t<T>, 2, ExecT> dx) const
  {
    exec.zero(dx.data_handle(), static_cast<std::size_t>(dx.size()) * sizeof(accumulator_t<T>));
  }
  template <class ExecT, class T, class G>
  void backward_weights(ExecT const&,
                        Params<T const, ExecT> const&,
                        Saved<T, ExecT> const&,
                        View<StepState const, 1, ExecT>,
                        View<T const, 2, ExecT>,
                        View<accumulator_t<T> const, 2, ExecT>,
                        Carry<T, ExecT>&,
                        Params<G, ExecT> const&) const
  {
  }
};

}  // namespace moe
