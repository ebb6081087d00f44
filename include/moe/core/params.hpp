#pragma once
// Parameters in llm.c's way: one allocation, many views; one struct of views for values and for
// gradients alike.
#include <cstddef>
#include <string>
#include <type_traits>
#include <utility>

#include <moe/core/tensor.hpp>

namespace moe {

// Hands out consecutive views of one block of memory. Made without memory it only counts, so the
// same function lays out and measures. Every view starts on a multiple of 64 elements, which keeps
// rows aligned for vector loads; the elements between views belong to nobody.
template <class T, class ExecT>
class Carver {
 public:
  Carver() = default;
  explicit Carver(T* base) : base_{base} {}

  template <std::integral... Extents>
  View<T, sizeof...(Extents), ExecT> take(Extents... extents)
  {
    index_t n = 1;
    ((n = checked_mul("moe::Params", "elements", n, static_cast<index_t>(extents))), ...);
    T* const at          = base_ == nullptr ? nullptr : base_ + used_;
    index_t const blocks = n / 64 + (n % 64 > 0 ? 1 : 0);
    if (__builtin_add_overflow(used_, checked_mul("moe::Params", "elements", blocks, 64), &used_)) {
      Check{"moe::Params"}.fail<OverflowError>(
          "elements", detail::joined({detail::text_of(n), " more"}), "below 2^63");
    }
    return View<T, sizeof...(Extents), ExecT>(n == 0 ? nullptr : at, extents...);
  }
  [[nodiscard]] index_t used() const { return used_; }

 private:
  T* base_      = nullptr;
  index_t used_ = 0;
};

// What a parameter starts as (initialize.hpp).
struct Init {
  double mean           = 0;
  double variance       = 0;
  index_t first_element = 0;  // number of the view's first element, where it is a part of a larger

  // N(0, 1 / fan_in): keeps the variance of what a layer passes on (LeCun et al. 1998).
  static constexpr Init normal(index_t fan_in)
  {
    return {.variance = 1 / static_cast<double>(fan_in > 0 ? fan_in : 1)};
  }
  static constexpr Init constant(double value) { return {.mean = value}; }
  static constexpr Init zeros() { return {}; }
};

// A struct of views, ParamsT<T, ExecT>, says how it is laid out and what it holds:
//   static ParamsT carve(Carver<T, ExecT>&, SizesT const&)
//   void for_each(visit) const         visit("name", view, Init) for every view, in order
template <class P, class SizesT, class T, class ExecT>
concept Carvable = requires(Carver<T, ExecT>& carver, SizesT const& sizes) {
  { P::carve(carver, sizes) } -> std::same_as<P>;
};

// Owns the memory of one such struct. `flat()` is all of it as one vector, which is what an
// optimiser wants; the elements between views stay zero if they start as zero.
template <template <class, class> class ParamsT, class T, class SizesT, class ExecT>
class OwnedParams {
 public:
  OwnedParams() = default;
  OwnedParams(ExecT const& exec, SizesT const& sizes) : sizes_{sizes}
  {
    Carver<T, ExecT> count;
    ParamsT<T, ExecT>::carve(count, sizes);
    memory_ = Tensor<T, 1, ExecT>(exec, count.used());
    exec.zero(memory_.view().data_handle(), memory_.bytes());
  }

  [[nodiscard]] ParamsT<T, ExecT> view()
  {
    Carver<T, ExecT> carver(memory_.view().data_handle());
    return ParamsT<T, ExecT>::carve(carver, sizes_);
  }
  [[nodiscard]] ParamsT<T const, ExecT> const_view() const
  {
    Carver<T const, ExecT> carver(memory_.view().data_handle());
    return ParamsT<T const, ExecT>::carve(carver, sizes_);
  }
  operator ParamsT<T const, ExecT>() const { return const_view(); }
  [[nodiscard]] View<T, 1, ExecT> flat() { return memory_.view(); }
  [[nodiscard]] View<T const, 1, ExecT> const_flat() const { return memory_.const_view(); }
  [[nodiscard]] SizesT const& sizes() const { return sizes_; }

 private:
  SizesT sizes_{};
  Tensor<T, 1, ExecT> memory_;
};

}  // namespace moe
