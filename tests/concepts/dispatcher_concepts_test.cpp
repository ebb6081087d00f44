// Near misses of the dispatcher: each lacks one thing of the contract.
#include <moe/dispatch/local_dispatcher.hpp>
#include <moe/exec/host/primitives.hpp>
#include <moe/expert/ffn.hpp>

#include <doctest/doctest.h>

using moe::Dispatcher, moe::Host, moe::View;

namespace {

using Kernel = moe::Ffn<moe::SwiGlu, moe::with_bias>;

template <class D>
concept HostDispatcher = Dispatcher<D, Kernel, float, Host>;

struct Whole : moe::SerialDispatcher {};
static_assert(HostDispatcher<Whole> && moe::HasSlotLayout<Whole, moe::Dropless>);

struct NoCommunicator : Whole {
  void communicator() const {}
};
static_assert(!moe::HasCommunicator<NoCommunicator> && !HostDispatcher<NoCommunicator>);

struct LayoutByName : Whole {
  template <class CapacityT>
  static constexpr char const* layout = "compact";
};
static_assert(!moe::HasSlotLayout<LayoutByName, moe::Dropless>);

struct SavedOfAnotherType : Whole {
  template <class T, class ExecT, class KernelT>
  struct Saved {};
};
static_assert(!moe::HasDispatchState<SavedOfAnotherType, Kernel, float, Host> &&
              !HostDispatcher<SavedOfAnotherType>);

struct NoMakeWork : Whole {
  void make_work() const {}
};
static_assert(!moe::HasDispatchState<NoMakeWork, Kernel, float, Host> &&
              !HostDispatcher<NoMakeWork>);

struct ForwardWithoutAddend : Whole {  // the shared expert's part would be lost
  template <class ExecT, class T, class ExpertsT, class SavedT>
  void forward(ExecT const&,
               moe::DispatchInput<T, ExecT> const&,
               ExpertsT const&,
               SavedT&,
               View<T, 2, ExecT>) const
  {
  }
};
static_assert(!moe::HasDispatchForward<ForwardWithoutAddend, Kernel, float, Host> &&
              moe::HasDispatchBackward<ForwardWithoutAddend, Kernel, float, Host> &&
              !HostDispatcher<ForwardWithoutAddend>);

struct NoEvaluate : Whole {
  void evaluate() const {}
};
static_assert(!moe::HasDispatchForward<NoEvaluate, Kernel, float, Host> &&
              !HostDispatcher<NoEvaluate>);

struct BackwardWritesSaved : Whole {  // saved is const in the backward
  template <class ExecT, class T, class ExpertsT, class WorkT>
  void backward_data(ExecT const&,
                     moe::DispatchInput<T, ExecT> const&,
                     ExpertsT const&,
                     Saved<T, ExecT, Kernel>&,
                     View<T const, 2, ExecT>,
                     WorkT&,
                     View<float, 1, ExecT>) const
  {
  }
};
static_assert(!moe::HasDispatchBackward<BackwardWritesSaved, Kernel, float, Host> &&
              !HostDispatcher<BackwardWritesSaved>);

struct NoCombineBackward : Whole {
  void combine_backward() const {}
};
static_assert(!moe::HasDispatchBackward<NoCombineBackward, Kernel, float, Host> &&
              !HostDispatcher<NoCombineBackward>);

struct NoBackwardWeights : Whole {
  void backward_weights() const {}
};
static_assert(!moe::HasDispatchBackward<NoBackwardWeights, Kernel, float, Host> &&
              !HostDispatcher<NoBackwardWeights>);

struct WeightsWithoutResult : Whole {  // would add where it is to overwrite
  template <class ExecT, class T, class ExpertsT, class SavedT, class WorkT, class GradsT>
  void backward_weights(ExecT const&,
                        moe::DispatchInput<T, ExecT> const&,
                        ExpertsT const&,
                        SavedT const&,
                        View<T const, 2, ExecT>,
                        WorkT&,
                        GradsT const&) const
  {
  }
};
static_assert(!moe::HasDispatchBackward<WeightsWithoutResult, Kernel, float, Host> &&
              !HostDispatcher<WeightsWithoutResult>);

template <class T>
constexpr bool is_model = Dispatcher<moe::SerialDispatcher, Kernel, T, Host> &&
                          Dispatcher<moe::BatchedDispatcher<>, Kernel, T, Host> &&
                          Dispatcher<moe::BatchedDispatcher<moe::PaddedSchedule>, Kernel, T, Host>;
static_assert(is_model<float> && is_model<double> && is_model<moe::Half> &&
              is_model<moe::BFloat16>);

}  // namespace

TEST_CASE("the library's dispatchers count with a world of one and say how their slots lie")
{
  using moe::SlotLayout;
  CHECK(moe::SerialDispatcher::communicator().size() == 1);
  CHECK(moe::BatchedDispatcher<>::layout<moe::Dropless> == SlotLayout::compact);
  CHECK(moe::BatchedDispatcher<moe::PaddedSchedule>::layout<moe::Dropless> == SlotLayout::padded);
}
