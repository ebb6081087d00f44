// error: moe::Layer: an expert kernel has void forward(exec, params, groups, x, saved, scratch,
// out) const for this element type and space
#include "train.hpp"

struct Expert : parts::Expert {
  template <class ExecT>
  void forward(ExecT const&,
               Params<double const, ExecT> const&,
               moe::RowGroups<ExecT> const&,
               moe::IndexedRows<double, ExecT> const&,
               Saved<double, ExecT>&,
               Scratch<double, ExecT>&,
               moe::View<double, 2, ExecT>) const;
};
int main()
{
  parts::train(moe::Layer{parts::Router{}, moe::Dropless{}, moe::SerialDispatcher{}, Expert{}});
}
