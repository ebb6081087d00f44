// A program whose GPU cannot run it says why in one sentence, and moe::Host works in it. Built for
// compute capability 7.5 alone. `absent driver`: run where no driver or no GPU is visible;
// `absent architecture`: run on a GPU of another architecture, skipped without a GPU.
#include <cstdio>
#include <cstring>
#include <string>

#include <moe/exec/cuda.cuh>
#include <moe/exec/host.hpp>

namespace {

constexpr int failed = 1, skipped = 77;  // CTest's SKIP_RETURN_CODE

struct CountRow {
  moe::Id* rows;
  template <moe::Team G>
  MOE_HOST_DEVICE void operator()(G team, moe::index_t) const
  {
    if (team.lane() == 0) { ++*rows; }
  }
};

bool host_works()
{
  moe::Host const exec{{.threads = 1}};
  moe::Id rows = 0;
  exec.for_each_row(3, CountRow{&rows});
  return rows == 3;
}

// Whether the sentence has all parts; tells when not.
bool says(moe::CudaError const& e, std::initializer_list<char const*> parts)
{
  bool all = true;
  for (char const* const part : parts) {
    all = all && std::string(e.what()).find(part) != std::string::npos;
  }
  std::printf("%s: %s\n", all ? "said" : "said something else", e.what());
  return all;
}

int driver()
{
  try {
    moe::Cuda const exec;
  } catch (moe::CudaError const& e) {
    bool const said = says(e, {" is absent (cudaError", "moe::Host works without"});
    return said && host_works() ? 0 : failed;
  }
  std::puts("a GPU is visible");
  return failed;
}

int architecture()
{
  int devices = 0, major = 0, minor = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::puts("skipped: no CUDA driver or no GPU");
    return skipped;
  }
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0);
  cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, 0);
  if (major == 7) {
    std::puts("skipped: this GPU can run it");
    return skipped;
  }
  char here[32];
  std::snprintf(here, sizeof here, "(%d.%d)", major, minor);
  try {
    moe::Cuda const exec;
    exec.for_each_row(1, CountRow{nullptr});
    std::puts("no error");
    return failed;
  } catch (moe::CudaError const& e) {
    bool const said = says(e,
                           {"moe::for_each_row: the list of architectures that this program was "
                            "built for is 7.5, must be one with this GPU's ",
                            here,
                            "set CMAKE_CUDA_ARCHITECTURES, or nvcc's -gencode"});
    // Nothing is left behind for the next call to trip over.
    return said && cudaPeekAtLastError() == cudaSuccess && host_works() ? 0 : failed;
  }
}

}  // namespace

int main(int argc, char** argv)
{
  return argc > 1 && std::strcmp(argv[1], "driver") == 0 ? driver() : architecture();
}
