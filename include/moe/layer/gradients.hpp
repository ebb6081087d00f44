#pragma once
// What a backward pass does to gradients: adds to them, or overwrites them.
#include <type_traits>

#include <moe/exec/gemm.hpp>

namespace moe {

template <class ParamsT>
struct GradientsWith {
  ParamsT grads;
  Result result;
};

// In place of grads in Layer::backward: all of them are written, whatever they held, so that nobody
// need make them zeros and their old values are not read. With `first` false they are added to as
// without this, so that one call serves a loop over micro-batches: overwrite(grads, m == 0).
template <class ParamsT>
[[nodiscard]] constexpr GradientsWith<ParamsT> overwrite(ParamsT const& grads, bool first = true)
{
  static_assert(std::is_copy_constructible_v<ParamsT>,
                "moe::overwrite: gradients are views, as grads.view() of what make_params gave");
  return {grads, first ? Result::overwrite : Result::add};
}

}  // namespace moe
