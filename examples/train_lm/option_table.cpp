#include "option_table.hpp"

namespace train_lm {
namespace {

constexpr std::int64_t many = 1 << 20;

}  // namespace

// clang-format off
std::vector<Option> const& option_table()
{
  static std::vector<Option> const options{
      {"gate", Part::policy, Text{&Options::gate, {"linear", "low-rank", "cosine", "tempered"}},
       "how logits come about; tempered falls from temperature 2 to 1"},
      {"router", Part::policy,
       Text{&Options::router,
            {"softmax", "softmax-after", "sigmoid-bias", "switch", "noisy", "expert-choice"}},
       "top-2 but for switch (top-1); expert-choice sees the future"},
      {"capacity", Part::policy,
       Text{&Options::capacity, {"dropless", "position", "weight", "priority"}},
       "whom a full expert drops: none, last, lightest, least certain"},
      {"dispatcher", Part::policy, Text{&Options::dispatcher, {"batched", "serial"}},
       "all experts in one call, or one after the other"},
      {"experts", Part::policy,
       Text{&Options::experts,
            {"swiglu", "geglu", "relu", "squared-relu", "gelu", "silu", "gpt-oss"}},
       "the activation of the experts"},

      {"capacity-factor", Part::run, Real{&Options::capacity_factor},
       "slots over the mean load, with a bounded --capacity"},
      {"layers", Part::run, Whole{&Options::layers, 1, 64}, "blocks of attention and experts"},
      {"hidden", Part::run, Whole{&Options::hidden, 2, 16384}, "width of the residual stream"},
      {"heads", Part::run, Whole{&Options::heads, 1, 512}, "of attention"},
      {"expert-count", Part::run, Whole{&Options::expert_count, 2, 4096},
       "routed experts per block"},
      {"ffn", Part::run, Whole{&Options::ffn, 1, 65536}, "width of a routed expert"},
      {"shared-ffn", Part::run, Whole{&Options::shared_ffn, 1, 65536},
       "width of the shared expert"},
      {"context", Part::run, Whole{&Options::context, 1, 4096}, "bytes of a sequence"},
      {"batch", Part::run, Whole{&Options::batch, 1, 65536}, "sequences per step"},
      {"steps", Part::run, Whole{&Options::steps, 1, many * many}, "of the optimiser"},
      {"learning-rate", Part::run, Real{&Options::learning_rate}, "at its highest"},
      {"seed", Part::run, Whole{&Options::seed, 0, many * many},
       "of the weights, batches and noise"},
      {"validation-bytes", Part::run, Whole{&Options::validation_bytes, 1, many * many},
       "at most, for the verdict at the end"},

      {"files", Part::call, List{&Options::files},
       "text to train on, folders too (default: the sources here)"},
      {"device", Part::call, Text{&Options::device, {"host", "cuda"}},
       "where it runs; cuda: an NVIDIA GPU, if nvcc built this program"},
      {"threads", Part::call, Whole{&Options::threads, 0, 4096}, "of the host, 0: all there are"},
      {"products", Part::call, Text{&Options::products, {"automatic", "own", "blas"}},
       "own: bits for any threads; automatic: own on the host"},
      {"ranks", Part::call, Whole{&Options::ranks, 1, 64},
       "threads that share batch and experts; cuda: with a GPU each, or GPU 0"},
      {"processes", Part::call, Flag{&Options::processes},
       "the same of processes under mpirun, torchrun or srun: cuda, by NCCL"},
      {"reproducible", Part::call, Flag{&Options::reproducible},
       "the same bits for every number of ranks: sums by sequences, in order"},
      {"save", Part::call, Text{&Options::save, {}}, "checkpoint to write (safetensors)"},
      {"resume", Part::call, Text{&Options::resume, {}}, "checkpoint to go on from"},
      {"stop-at", Part::call, Whole{&Options::stop_at, 0, many * many},
       "leave off after this step, 0: run to the end"},
      {"log", Part::call, Text{&Options::log, {}}, "table to write: step, loss, balance, drops"},
      {"log-every", Part::call, Whole{&Options::log_every, 1, many}, "steps between lines"},
      {"sample-bytes", Part::call, Whole{&Options::sample_bytes, 0, many},
       "of text to write at the end"},
      {"eval-only", Part::call, Flag{&Options::eval_only}, "no training"},
      {"help", Part::call, Flag{&Options::help}, "this"},
  };
  return options;
}
// clang-format on

}  // namespace train_lm
