// The GPU tests' main: without a GPU they are skipped (CTest's SKIP_RETURN_CODE is 77). Where there
// are several, a program of ranks that are threads runs twice, as support/rank_gpus.hpp says.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>

#include "support/rank_seats.hpp"

int main(int argc, char** argv)
{
  int const devices = moe::test::gpus();
  if (devices == 0) {
    std::puts("skipped: no CUDA driver or no GPU");
    return 77;
  }
  auto& seats = moe::test::rank_seats;
  int failed  = 0;
  for (bool const spread : {false, true}) {
    if (spread && (!seats.used || devices == 1)) { break; }
    seats.spread = spread;
    if (spread) { std::puts("once more, with a GPU for each rank"); }
    doctest::Context context(argc, argv);
    int const result = context.run();
    failed           = failed != 0 ? failed : result;
    if (context.shouldExit()) { break; }  // it was asked for a list of tests, say
  }
  return failed;
}
