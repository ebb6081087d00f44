#pragma once
// A layer as a memory plan sees it.
#include <moe/dispatch/all_to_all_dispatcher.hpp>
#include <moe/exec/meter_primitives.hpp>
#include <moe/layer.hpp>

namespace moe::detail {

template <class DispatcherT>
struct PlannableDispatcher : std::true_type {};
template <class CommT, class ScheduleT, class ExchangeT, class RowsT, class WireT>
struct PlannableDispatcher<AllToAllDispatcher<CommT, ScheduleT, ExchangeT, RowsT, WireT>>
    : std::bool_constant<(std::same_as<ExchangeT, FlatExchange> ||
                          std::same_as<ExchangeT, AllGatherExchange>) &&
                         std::same_as<RowsT, EachChoice>> {};

// The layer, and what its passes make first and the plan wants the names of.
template <class LayerT>
class MeteredLayer;
template <class RouterT, class CapacityT, class DispatcherT, class ExpertT, class... ExtraTs>
class MeteredLayer<Layer<RouterT, CapacityT, DispatcherT, ExpertT, ExtraTs...>>
    : public Layer<RouterT, CapacityT, DispatcherT, ExpertT, ExtraTs...> {
  using Base   = Layer<RouterT, CapacityT, DispatcherT, ExpertT, ExtraTs...>;
  using Stages = LayerStages<RouterT, CapacityT, DispatcherT, ExpertT, ExtraTs...>;

 public:
  explicit MeteredLayer(Base const& layer) : Base(layer) {}

  static constexpr int choices = Stages::top_k;  // 0: varies
  static constexpr bool given  = Stages::given;
  static constexpr bool shared = Stages::has_shared;
  static constexpr bool splits = SplitsExperts<DispatcherT>;

  [[nodiscard]] DispatcherT const& dispatcher() const { return Base::dispatcher_; }
  [[nodiscard]] auto here(typename Base::Sizes const& sizes) const { return Stages::here(sizes); }
  // Choices of T tokens.
  [[nodiscard]] index_t choices_of(typename Base::Sizes const& sizes, index_t tokens) const
  {
    return Stages::assignments(sizes, tokens);
  }
  template <class T>
  [[nodiscard]] auto routed(MemoryMeter const& exec,
                            typename Base::Sizes const& sizes,
                            index_t tokens,
                            index_t sequences) const
  {
    return Stages::template make_routed<T>(exec, sizes, tokens, sequences);
  }
  template <class T, class SavedT>
  [[nodiscard]] auto work(MemoryMeter const& exec,
                          SavedT const& saved,
                          LayerInput<T, MemoryMeter> const& in) const
  {
    return Stages::template make_work<T>(exec, saved, in);
  }
  template <class T, class ParamsT>
  [[nodiscard]] auto output(MemoryMeter const& exec,
                            ParamsT const& params,
                            index_t rows,
                            Pass pass) const
  {
    auto const experts = Stages::bound(params);
    return ExpertOutput<T, MemoryMeter, ExpertT>(exec, experts, rows, pass);
  }
};

template <class LayerT>
MeteredLayer(LayerT const&) -> MeteredLayer<LayerT>;

}  // namespace moe::detail
