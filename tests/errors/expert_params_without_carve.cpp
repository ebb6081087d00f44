// error: moe::Layer: an expert kernel's Params have static carve(carver, layout) and layout()
// const, see moe/expert/expert_kernel.hpp
#include "train.hpp"

struct Expert : parts::Expert {
  template <class T, class ExecT>
  struct Params {
    moe::View<T, 2, ExecT> scale;
  };
};
int main()
{
  parts::train(moe::Layer{parts::Router{}, moe::Dropless{}, moe::SerialDispatcher{}, Expert{}});
}
