// A layer with an expert of one's own, and the check that its backward is right: every gradient in
// it against central differences in double.
#include "gradient_check.hpp"
#include "linear_expert.hpp"

static_assert(moe::ExpertKernel<LinearExpert, moe::BFloat16, moe::Host>);

int main()
{
  moe::Layer layer{moe::SoftmaxTopK<2>{}, moe::Dropless{}, moe::SerialDispatcher{}, LinearExpert{}};
  return gradient_error(layer, {.hidden = 6, .experts = 5}, 12) < 1e-6 ? 0 : 1;
}
