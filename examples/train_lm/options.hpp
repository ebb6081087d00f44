#pragma once
// What the command line says. Options that shape a run are also kept in its checkpoint.
#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace train_lm {

// What the user asked for cannot be done; what() is one sentence that says why.
struct Refused : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A policy of every kind; each can differ from its default alone.
struct Policies {
  std::string gate       = "linear";
  std::string router     = "softmax";
  std::string capacity   = "dropless";
  double capacity_factor = 1.25;
  std::string dispatcher = "batched";
  std::string experts    = "swiglu";
};

struct Options : Policies {
  // the model
  std::int64_t layers       = 2;
  std::int64_t hidden       = 128;  // D
  std::int64_t heads        = 4;
  std::int64_t expert_count = 8;   // E
  std::int64_t ffn          = 96;  // F of a routed expert
  std::int64_t shared_ffn   = 96;  // F of the shared expert

  // the run
  std::int64_t context          = 128;
  std::int64_t batch            = 16;
  std::int64_t steps            = 256;
  double learning_rate          = 4e-3;
  std::int64_t seed             = 1;
  std::int64_t validation_bytes = 32768;

  // this call
  std::vector<std::string> files;
  std::string device   = "host";
  std::string products = "automatic";
  std::int64_t threads = 0;
  std::int64_t ranks   = 1;
  bool processes       = false;
  bool reproducible    = false;
  std::string resume, save, log;
  std::int64_t stop_at      = 0;
  std::int64_t log_every    = 20;
  std::int64_t sample_bytes = 400;
  bool eval_only            = false;
  bool help                 = false;

  // Everything that shapes the run is at its default, so what it should reach is known.
  [[nodiscard]] bool is_default_run() const;
};

// Throws Refused. With --resume, what shapes the run is read by resumed() from the checkpoint.
[[nodiscard]] Options parse_options(std::vector<std::string> const& arguments);

// Throws Refused where so many ranks cannot share a run.
void check_ranks(Options const& options, std::int64_t ranks);

// name -> value of what shapes the run, as text
using RunSettings = std::map<std::string, std::string>;
[[nodiscard]] RunSettings run_settings(Options const& options);

// `options` with the settings of a checkpoint; refused where `arguments` asks for others.
[[nodiscard]] Options resumed(Options const& options,
                              std::vector<std::string> const& arguments,
                              RunSettings const& settings);

[[nodiscard]] std::string help_text();

}  // namespace train_lm
