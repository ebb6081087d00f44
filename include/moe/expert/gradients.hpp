#pragma once
// Gradients that are overwritten, whether the kernel can (OverwritesWeights) or only adds.
#include <cstddef>
#include <type_traits>
#include <utility>

#include <moe/expert/expert_kernel.hpp>

namespace moe::detail {

// Every view of a struct of parameters.
template <class ExecT, class ParamsT>
void zero_views(ExecT const& exec, ParamsT const& params)
{
  params.for_each([&](char const*, auto const& view, auto const&) {
    using T = typename std::decay_t<decltype(view)>::value_type;
    exec.zero(view.data_handle(), static_cast<std::size_t>(view.size()) * sizeof(T));
  });
}

// What to ask of the kernel, call by call, so that `result` comes of it. One that only adds is
// given zeros to add to.
template <class KernelT, class T, class ExecT, class ParamsT>
[[nodiscard]] Result start_gradients([[maybe_unused]] ExecT const& exec,
                                     [[maybe_unused]] ParamsT const& grads,
                                     Result result)
{
  if constexpr (OverwritesWeights<KernelT, T, ExecT>) {
    return result;
  } else {
    if (result == Result::overwrite) { zero_views(exec, grads); }
    return Result::add;
  }
}

// kernel.backward_weights(exec, args...), told `result` where it takes one.
template <class T, class ExecT, class KernelT, class... Args>
void backward_kernel_weights([[maybe_unused]] Result result,
                             KernelT const& kernel,
                             ExecT const& exec,
                             Args&&... args)
{
  if constexpr (OverwritesWeights<KernelT, T, ExecT>) {
    kernel.backward_weights(exec, std::forward<Args>(args)..., result);
  } else {
    kernel.backward_weights(exec, std::forward<Args>(args)...);
  }
}

}  // namespace moe::detail
