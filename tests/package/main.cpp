// A stranger's program: makes a space, uses it in two translation units.
#include "library.hpp"

int threads_of_other(moe::Host const& exec);

int main()
{
  static_assert(__cplusplus >= 202002L);
  moe::Host const exec{{.threads = 2}};
#if defined(MOE_WITH_CBLAS)
  bool const products_as_configured = exec.products() == moe::Products::blas;
#else
  bool const products_as_configured = exec.products() == moe::Products::own;
#endif
  return threads_of_other(exec) == 2 && products_as_configured ? 0 : 1;
}
