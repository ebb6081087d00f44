// error: moe::Layer: a dispatcher has make_saved<T>(exec, kernel, layout, rows) and
// make_work<T>(exec, kernel, layout, saved, rows) const, see moe/dispatch/dispatcher.hpp
#include "train.hpp"

struct Dispatcher : moe::SerialDispatcher {
  void make_work() const;
};
int main()
{
  parts::train(moe::Layer{parts::Router{}, moe::Dropless{}, Dispatcher{}, moe::Ffn<moe::Relu>{}});
}
