// moe::nccl brings NCCL's header and library, CUDA's, and moe.
#include <nccl.h>

#include "../library.hpp"

int threads_of_other(moe::Host const& exec);

int main()
{
  int version          = 0;
  bool const same_nccl = ncclGetVersion(&version) == 0 && version == NCCL_VERSION_CODE;
  return same_nccl && threads_of_other(moe::Host{{.threads = 2}}) == 2 ? 0 : 1;
}
