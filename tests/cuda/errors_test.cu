// A kernel that fails loses the process's context: every later call repeats that cause. In a
// program of its own, after which nothing else can use the GPU.
#include <doctest/doctest.h>

#include <functional>
#include <string>
#include <utility>

#include <moe/exec/cuda.cuh>

using namespace moe;

namespace {

__global__ void trap_kernel()
{
  __trap();
}

struct NothingRow {
  template <Team G>
  __device__ void operator()(G, index_t) const
  {
  }
};

// The CudaError that `work` throws.
CudaError error_of(std::function<void()> const& work)
{
  try {
    work();
  } catch (CudaError const& e) {
    return e;
  } catch (std::exception const& e) {
    return CudaError("another error", e.what(), "", "");
  }
  return CudaError("no error", "", "", "");
}

}  // namespace

TEST_CASE("later calls repeat the first cause")
{
  Cuda const exec;
  void* const memory = exec.allocate(64);
  (void)exec.cublas();
  exec.for_each_row(1, NothingRow{});
  exec.synchronize();
  CHECK_NOTHROW(exec.enter("here"));

  trap_kernel<<<1, 1, 0, exec.stream()>>>();
  CudaError const first = error_of([&] { exec.synchronize(); });
  CHECK(first.operation.find("cudaStreamSynchronize") != std::string::npos);
  CHECK(first.limit.find("a kernel failed, and this process cannot use its GPU any more") !=
        std::string::npos);
  std::string const name = first.value.substr(0, first.value.find(','));
  CHECK(name.find("cudaError") == 0);

  char bytes[64]                                              = {};
  std::pair<char const*, std::function<void()>> const calls[] = {
      {"enter", [&] { exec.enter("moe::Layer::forward"); }},
      {"allocate", [&] { (void)exec.allocate(1 << 20); }},
      {"zero", [&] { exec.zero(memory, 64); }},
      {"copy_from_host", [&] { exec.copy_from_host(memory, bytes, 64); }},
      {"copy_to_host", [&] { exec.copy_to_host(bytes, memory, 64); }},
      {"for_each_row", [&] { exec.for_each_row(1, NothingRow{}); }},
      {"mark", [&] { exec.wait(exec.mark()); }},
      {"synchronize", [&] { exec.synchronize(); }},
      {"another handle", [] { (void)Cuda(); }}};
  for (auto const& [what, call] : calls) {
    CAPTURE(what);
    CudaError const later = error_of(call);
    CAPTURE(later.what());
    CHECK(later.value.substr(0, name.size()) == name);
  }
  CHECK_NOTHROW(exec.deallocate(memory, 64));
}
