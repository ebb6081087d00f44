// Trains a byte-level language model with mixture-of-experts blocks; `train_lm --help` says how.
// model.hpp is the model, layer_block.hpp what it asks of the library, trainer.hpp a step, run.cpp
// a run of them, ranks.hpp the ranks that may share it. These are written on any space; space.hpp
// says how they come to the GPU.
#include <cstdio>
#include <exception>

#include "run.hpp"

namespace train_lm {
namespace {

int run_on_device(Options const& options, Checkpoint const* from)
{
  bool const threads = options.ranks > 1 || options.reproducible;
  if (options.device == "host") {
    return threads ? run_threads_on_host(options, from) : run_on_host(options, from);
  }
#if defined(TRAIN_LM_WITH_NCCL)
  if (options.processes) { return run_process_on_cuda(options, from); }
#elif defined(TRAIN_LM_WITH_CUDA)
  if (options.processes) {
    throw Refused(
        "--processes is not in this program, which was built without NCCL: build it again where "
        "NCCL 2.19 or newer is found.");
  }
#endif
#if defined(TRAIN_LM_WITH_CUDA)
  return threads ? run_threads_on_cuda(options, from) : run_on_cuda(options, from);
#else
  throw Refused(
      "--device cuda is not in this program, which was built without nvcc: build it again where "
      "nvcc is found, with -DMOE_CUDA=ON.");
#endif
}

int run(std::vector<std::string> const& arguments)
{
  Options options = parse_options(arguments);
  if (options.help) {
    std::fputs(help_text().c_str(), stdout);
    return 0;
  }
  if (options.resume.empty()) { return run_on_device(options, nullptr); }
  auto const checkpoint = load_checkpoint(options.resume);
  RunSettings settings;
  for (auto const& [key, value] : checkpoint.metadata) {
    if (key.rfind("option ", 0) == 0) { settings[key.substr(7)] = value; }
  }
  options = resumed(options, arguments, settings);
  return run_on_device(options, &checkpoint);
}

}  // namespace
}  // namespace train_lm

int main(int argc, char** argv)
{
  try {
    return train_lm::run({argv + 1, argv + argc});
  } catch (std::exception const& refused) {  // ours, or one of moe's, which say what and why
    std::fprintf(stderr, "train_lm: %s\n", refused.what());
    return 2;
  }
}
