#pragma once
#include <moe/moe.hpp>

namespace moe::test {

// A user's expert: F_e(x) = scale_e * x, element by element.
struct Diagonal {
  struct Sizes {
    friend bool operator==(Sizes const&, Sizes const&) = default;
  };
  using Layout = ExpertLayout<Sizes>;

  template <class T, class ExecT>
  struct Params {
    View<T, 2, ExecT> scale;  // (L, D)

    static Params carve(Carver<T, ExecT>& carver, Layout const& s)
    {
      return {carver.take(s.experts, s.hidden)};
    }
    template <class Visit>
    void for_each(Visit visit) const
    {
      visit("scale", scale, Init::constant(1));
    }
    [[nodiscard]] Layout layout() const { return {scale.extent(0), scale.extent(1), {}}; }
  };
  template <class T, class ExecT>
  struct Saved {};
  template <class T, class ExecT>
  struct Scratch {};
  template <class T, class ExecT>
  struct Carry {};
  template <class T, class ExecT>
  [[nodiscard]] Saved<T, ExecT> make_saved(ExecT const&, Layout const&, index_t) const
  {
    return {};
  }
  template <class T, class ExecT>
  [[nodiscard]] Scratch<T, ExecT> make_scratch(ExecT const&, Layout const&, index_t, Pass) const
  {
    return {};
  }
  template <class T, class ExecT>
  [[nodiscard]] Carry<T, ExecT> make_carry(ExecT const&, Layout const&, index_t) const
  {
    return {};
  }

  template <class ExecT, class T>
  void infer(ExecT const& exec,
             Params<T const, ExecT> const& params,
             RowGroups<ExecT> const& groups,
             IndexedRows<T, ExecT> const& x,
             Scratch<T, ExecT>&,
             View<T, 2, ExecT> out) const
  {
    for_each_grouped_row(exec, groups, [&](auto, index_t e, index_t r) {
      for (index_t d = 0; d < out.extent(1); ++d) {
        out(r, d) = x.row(r) == nullptr ? T{0} : params.scale(e, d) * x.row(r)[d];
      }
    });
  }
  template <class ExecT, class T>
  void forward(ExecT const& exec,
               Params<T const, ExecT> const& params,
               RowGroups<ExecT> const& groups,
               IndexedRows<T, ExecT> const& x,
               Saved<T, ExecT>&,
               Scratch<T, ExecT>& scratch,
               View<T, 2, ExecT> out) const
  {
    infer(exec, params, groups, x, scratch, out);
  }
  template <class ExecT, class T>
  void backward_data(ExecT const& exec,
                     Params<T const, ExecT> const& params,
                     Saved<T, ExecT> const&,
                     RowGroups<ExecT> const& groups,
                     IndexedRows<T, ExecT> const& x,
                     IndexedRows<T, ExecT> const& dy,
                     View<accumulator_t<T> const, 1, ExecT> weight,
                     Carry<T, ExecT>&,
                     View<T, 2, ExecT> dx,
                     View<accumulator_t<T>, 1, ExecT> d_weight) const
  {
    for_each_grouped_row(exec, groups, [&](auto, index_t e, index_t r) {
      d_weight(r) = 0;
      for (index_t d = 0; d < dx.extent(1); ++d) {
        dx(r, d) = weight(r) * params.scale(e, d) * dy.row(r)[d];
        d_weight(r) += params.scale(e, d) * x.row(r)[d] * dy.row(r)[d];
      }
    });
  }
  template <class ExecT, class T, class G>
  void backward_weights(ExecT const& exec,
                        Saved<T, ExecT> const&,
                        RowGroups<ExecT> const& groups,
                        IndexedRows<T, ExecT> const& x,
                        IndexedRows<T, ExecT> const& dy,
                        View<accumulator_t<T> const, 1, ExecT> weight,
                        Carry<T, ExecT>&,
                        Params<G, ExecT> const& grads) const
  {
    exec.for_each_row(groups.experts(), [&](auto, index_t i) {
      index_t const e = groups.first + i;
      for (index_t r = groups.begin(e); r < groups.end(e); ++r) {
        for (index_t d = 0; d < grads.scale.extent(1); ++d) {
          grads.scale(e, d) += weight(r) * x.row(r)[d] * dy.row(r)[d];
        }
      }
    });
  }
};
static_assert(ExpertKernel<Diagonal, double, Host>);

}  // namespace moe::test
