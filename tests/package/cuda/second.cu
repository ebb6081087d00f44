#include <moe/moe.cuh>

double sum_of_second(moe::Cuda const& exec);

// The same kernels as in main.cu: links only if all that the headers define may be defined twice.
double sum_of_second(moe::Cuda const& exec)
{
  moe::Tensor<float, 2, moe::Cuda> x(exec, 300, 5);
  moe::Tensor<float, 1, moe::Cuda> sum(exec, 5);
  exec.zero(x.view().data_handle(), x.bytes());
  moe::sum_rows(exec, x.const_view(), moe::Result::overwrite, sum.view());
  float host[5];
  exec.copy_to_host(host, sum.view().data_handle(), sizeof(host));
  return host[0];
}
