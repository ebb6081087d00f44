// error: moe::Layer: a gate's Params have static carve(carver, layout) and layout() const, see
// moe/route/gate.hpp
#include "train.hpp"

struct Gate : parts::Gate {
  template <class T, class ExecT>
  struct Params : parts::Gate::Params<T, ExecT> {
    void layout() const;
  };
};
int main()
{
  parts::train(moe::Layer{
      parts::Router{}, moe::Dropless{}, moe::SerialDispatcher{}, moe::Ffn<moe::Relu>{}, Gate{}});
}
