// Two .cu files and a .cpp of one program, compiled as C++20, which starts without a GPU too.
#include <moe/moe.cuh>

#include "../library.hpp"

int threads_of_other(moe::Host const& exec);
double sum_of_second(moe::Cuda const& exec);

int main()
{
  static_assert(__cplusplus >= 202002L);
  if (threads_of_other(moe::Host{{.threads = 2}}) != 2) { return 1; }
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    try {
      moe::Cuda const exec;
      return 1;
    } catch (moe::CudaError const&) {  // one sentence, and Host works
      return 0;
    }
  }
  moe::Cuda const exec;
  moe::Tensor<float, 2, moe::Cuda> x(exec, 300, 5);
  moe::Tensor<float, 1, moe::Cuda> sum(exec, 5);
  exec.zero(x.view().data_handle(), x.bytes());
  moe::sum_rows(exec, x.const_view(), moe::Result::overwrite, sum.view());
  return sum_of_second(exec) == 0 ? 0 : 1;
}
