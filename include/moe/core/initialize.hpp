#pragma once
// Parameters from a seed.
#include <cstdint>

#include <moe/core/params.hpp>
#include <moe/core/random.hpp>
#include <moe/core/team.hpp>

namespace moe {
namespace detail {

// Element i of the n-th view is a function of (seed, n, i) alone; a part of a view is numbered as
// it is in the whole.
template <class T, class ExecT>
struct InitializeRow {
  View<T, 1, ExecT> values;
  Init init;
  std::uint64_t seed;
  std::uint32_t number;  // of the view
  static constexpr index_t block = 1024;

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t b) const
  {
    index_t const end = (b + 1) * block < values.extent(0) ? (b + 1) * block : values.extent(0);
    for (index_t i = b * block + team.lane(); i < end; i += team.size()) {
      double value = init.mean;
      if (init.variance > 0) {
        auto const at = static_cast<std::uint64_t>(init.first_element + i);
        value +=
            std::sqrt(init.variance) *
            normal_from<double>(philox4x32(
                {{static_cast<std::uint32_t>(at), static_cast<std::uint32_t>(at >> 32), number, 0}},
                {{static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)}}));
      }
      if constexpr (std::is_same_v<T, double>) {
        values(i) = value;
      } else {
        values(i) = static_cast<T>(static_cast<float>(value));
      }
    }
  }
};

}  // namespace detail

// Fills every view of `params` with what its owner asks for (Init). The same seed gives the same
// values on any number of threads, and to each expert whatever rank it is at; in another element
// type, the same values rounded.
template <class ExecT, class ParamsT>
void initialize(ExecT const& exec, ParamsT const& params, std::uint64_t seed)
{
  std::uint32_t number = 0;
  params.for_each([&]<class T, int Rank>(char const*, View<T, Rank, ExecT> const& view, Init init) {
    using Row = detail::InitializeRow<T, ExecT>;
    exec.for_each_row(
        (view.size() + Row::block - 1) / Row::block,
        Row{View<T, 1, ExecT>(view.data_handle(), view.size()), init, seed, number++});
  });
}

}  // namespace moe
