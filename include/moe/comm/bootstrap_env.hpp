#pragma once
// Who this process is among those it was started with: read from what the launcher left in the
// environment, with no MPI and no Torch.
#include <charconv>
#include <cstdlib>
#include <functional>
#include <limits>
#include <string>
#include <string_view>

#include <moe/core/error.hpp>

namespace moe::bootstrap {

// The processes of one start. What the launcher does not say is -1 (local_rank, local_size) or
// empty; host_groups.hpp finds the local ones through a communicator. Can also be made by hand.
struct World {
  int rank = 0, size = 1;
  int local_rank = 0, local_size = 1;  // among the processes of this host
  std::string launcher = "none";       // "moe", "torchrun", "mpirun", "slurm"
  std::string run_id   = {};           // the same on every rank, another for every start
  std::string file     = {};           // MOE_BOOTSTRAP_FILE: what share() meets in
  // torchrun's MASTER_ADDR and MASTER_PORT: where share() meets, at the next port, with no file
  std::string master_addr = {};
  int master_port         = 0;
};

struct EnvOptions {
  // The value of a variable, or null where it is not set.
  std::function<char const*(char const*)> lookup = [](char const* name) {
    return std::getenv(name);
  };
};

namespace detail {

using moe::detail::joined;
using moe::detail::text_of;

// The variables of one launcher. Names that it does not have are null.
struct Variables {
  char const *launcher, *rank, *size, *local_rank, *local_size;
};

// First come, first served. Ours go before all, as what the user said by name. torchrun goes before
// mpirun, which may have started it; both before SLURM, whose variables stay in the environment of
// everything that is started inside of a job.
inline constexpr Variables launchers[] = {
    {"moe", "MOE_RANK", "MOE_WORLD_SIZE", "MOE_LOCAL_RANK", "MOE_LOCAL_WORLD_SIZE"},
    {"torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"},
    {"mpirun",
     "OMPI_COMM_WORLD_RANK",
     "OMPI_COMM_WORLD_SIZE",
     "OMPI_COMM_WORLD_LOCAL_RANK",
     "OMPI_COMM_WORLD_LOCAL_SIZE"},
    {"mpirun", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"},
};

class Environment {
 public:
  explicit Environment(EnvOptions const& options) : options_{options} {}

  // A variable that is set to nothing counts as not set, as launchers' scripts leave them.
  [[nodiscard]] std::string text(char const* name) const
  {
    char const* const value = name != nullptr ? options_.lookup(name) : nullptr;
    return value != nullptr ? value : "";
  }
  [[nodiscard]] bool has(char const* name) const { return !text(name).empty(); }

  // A number of [least, most].
  [[nodiscard]] int number(char const* name, int least, int most, std::string_view most_is) const
  {
    std::string const value = text(name);
    long long n             = 0;
    char const* const end   = value.data() + value.size();
    auto const parsed       = std::from_chars(value.data(), end, n);
    if (parsed.ec != std::errc{} || parsed.ptr != end || n < least || n > most) {
      fail(name, joined({"an integer from ", text_of(least), " to ", most_is}));
    }
    return static_cast<int>(n);
  }
  [[noreturn]] void fail(char const* name, std::string_view must_be) const
  {
    std::string const value = text(name);
    Check{"moe::bootstrap::from_env"}.fail<ValueError>(
        name, value.empty() ? "not set" : joined({"\"", value, "\""}), must_be);
  }

  // True where the launcher has set its variables; some of them alone are refused.
  [[nodiscard]] bool started_by(Variables const& v) const
  {
    bool const rank = has(v.rank), size = has(v.size);
    if (!rank && !size && !has(v.local_rank) && !has(v.local_size)) { return false; }
    if (!rank) { fail(v.rank, set_with(v, v.rank)); }
    if (!size) { fail(v.size, set_with(v, v.size)); }
    return true;
  }
  // -1 for the local numbers that are not set.
  [[nodiscard]] World world(Variables const& v) const
  {
    constexpr int most = std::numeric_limits<int>::max();
    World w;
    w.launcher        = v.launcher;
    w.size            = number(v.size, 1, most, text_of(most));
    auto const before = [](char const* name, int n) {
      return joined({name, " - 1 (", text_of(n - 1), ")"});
    };
    w.rank           = number(v.rank, 0, w.size - 1, before(v.size, w.size));
    bool const local = has(v.local_size);
    w.local_size =
        local ? number(v.local_size, 1, w.size, joined({v.size, " (", text_of(w.size), ")"}))
        : w.size == 1 ? 1
                      : -1;
    int const at_most = local ? w.local_size : w.size;
    w.local_rank =
        has(v.local_rank)
            ? number(v.local_rank, 0, at_most - 1, before(local ? v.local_size : v.size, at_most))
        : w.size == 1 ? 0
                      : -1;
    return w;
  }

  // A step that srun started. A job's script and an allocation's shell are one process however many
  // tasks were asked for; a script has SLURM_PROCID 0, and neither a step of its own.
  [[nodiscard]] bool in_slurm_step() const
  {
    constexpr unsigned long long first_special_step = 0xfffffff0;  // script, shell, extern
    std::string const step                          = text("SLURM_STEP_ID");
    if (step.empty()) {
      if (has("SLURM_PROCID") && text("SLURM_PROCID") != "0") {
        fail("SLURM_STEP_ID", "set, as SLURM_PROCID is not 0");
      }
      return false;
    }
    unsigned long long n = 0;
    auto const parsed    = std::from_chars(step.data(), step.data() + step.size(), n);
    if (parsed.ec == std::errc{} && n >= first_special_step) { return false; }
    if (!has("SLURM_PROCID")) { fail("SLURM_PROCID", "set, as SLURM_STEP_ID is"); }
    return true;
  }
  // srun --mpi=pmi2 sets PMI's variables beside its own, which say the place on the host as well.
  [[nodiscard]] bool pmi_of_srun(Variables const& v) const
  {
    return std::string_view(v.rank) == "PMI_RANK" && !has(v.local_rank) && !has(v.local_size) &&
           has("SLURM_STEP_ID") && text(v.rank) == text("SLURM_PROCID") &&
           text(v.size) == text("SLURM_STEP_NUM_TASKS");
  }
  [[nodiscard]] World slurm_world() const
  {
    bool const of_step = has("SLURM_STEP_NUM_TASKS");
    Variables const v{"slurm",
                      "SLURM_PROCID",
                      of_step ? "SLURM_STEP_NUM_TASKS" : "SLURM_NTASKS",
                      "SLURM_LOCALID",
                      nullptr};
    if (!has(v.size)) { fail(v.size, set_with(v, v.size)); }
    World w = world(v);
    if (has("SLURM_STEP_TASKS_PER_NODE") && has("SLURM_NODEID")) {
      constexpr int most = std::numeric_limits<int>::max();
      w.local_size       = tasks_of_node(number("SLURM_NODEID", 0, most, text_of(most)), w.size);
    } else if (has("SLURM_NTASKS_PER_NODE")) {
      // What was asked for, at most: the last host may have fewer.
      int const asked = number("SLURM_NTASKS_PER_NODE",
                               1,
                               std::numeric_limits<int>::max(),
                               text_of(std::numeric_limits<int>::max()));
      if (w.size % asked == 0) { w.local_size = asked; }
    }
    if (w.local_size > 0 && w.local_rank >= w.local_size) {
      fail("SLURM_LOCALID",
           joined({"below the number of tasks on its node (", text_of(w.local_size), ")"}));
    }
    return w;
  }

  [[nodiscard]] std::string run_id(std::string_view launcher) const
  {
    if (has("MOE_RUN_ID")) { return text("MOE_RUN_ID"); }
    // torchrun's id is "none" where the user gave none: every start's, and so nobody's.
    std::string const torch = text("TORCHELASTIC_RUN_ID");
    if (launcher == "torchrun" && !torch.empty() && torch != "none") {
      return joined({"torchrun ", torch, " restart ", text("TORCHELASTIC_RESTART_COUNT")});
    }
    // Open MPI's, made of its host and process number, which in a container may be every start's.
    // Version 4 has a random key besides.
    std::string const key = text("OMPI_MCA_orte_precondition_transports");
    if (launcher == "mpirun" && has("PMIX_NAMESPACE")) {
      return joined({"pmix ", text("PMIX_NAMESPACE"), " ", key});
    }
    if (launcher == "mpirun" && has("OMPI_MCA_ess_base_jobid")) {
      return joined({"ompi ", text("OMPI_MCA_ess_base_jobid"), " ", key});
    }
    // Only of a start by srun itself: several mpiruns and torchruns may run in one step.
    if (launcher == "slurm" && has("SLURM_JOB_ID") && has("SLURM_STEP_ID")) {
      return joined({"slurm ",
                     text("SLURM_JOB_ID"),
                     ".",
                     text("SLURM_STEP_ID"),
                     " restart ",
                     text("SLURM_RESTART_COUNT")});
    }
    return "";
  }

 private:
  [[nodiscard]] std::string set_with(Variables const& v, char const* missing) const
  {
    for (char const* const name : {v.rank, v.size, v.local_rank, v.local_size}) {
      if (name != missing && has(name)) {
        return joined({"set, as ", name, " is (\"", text(name), "\")"});
      }
    }
    return "set";
  }
  // "4(x2),3": two nodes of 4 tasks, one of 3.
  [[nodiscard]] int tasks_of_node(int node, int size) const
  {
    constexpr char const* name = "SLURM_STEP_TASKS_PER_NODE";
    std::string const list     = text(name);
    char const* at             = list.data();
    char const* const end      = at + list.size();
    long long nodes            = 0;
    while (at != end) {
      int tasks = 0, times = 1;
      auto parsed = std::from_chars(at, end, tasks);
      if (parsed.ec != std::errc{} || tasks < 1 || tasks > size) { break; }
      at = parsed.ptr;
      if (end - at > 2 && at[0] == '(' && at[1] == 'x') {
        parsed = std::from_chars(at + 2, end, times);
        if (parsed.ec != std::errc{} || times < 1 || parsed.ptr == end || *parsed.ptr != ')') {
          break;
        }
        at = parsed.ptr + 1;
      }
      nodes += times;
      if (node < nodes) { return tasks; }
      if (at != end && *at++ != ',') { break; }
    }
    fail(name,
         joined({"a list such as 4(x2),3 that has node ",
                 text_of(node),
                 " with 1 to ",
                 text_of(size),
                 " tasks"}));
  }

  EnvOptions const& options_;
};

}  // namespace detail

// Of our own variables (MOE_RANK, MOE_WORLD_SIZE, MOE_LOCAL_RANK, MOE_LOCAL_WORLD_SIZE),
// torchrun's, mpirun's (Open MPI, MPICH and its kin), srun's, the first that are set; a world of
// one where none are. Variables that contradict themselves, and half of a set, are a ValueError.
inline World from_env(EnvOptions const& options = {})
{
  detail::Environment const env(options);
  World world;
  bool found = false;
  for (detail::Variables const& v : detail::launchers) {
    if (env.started_by(v) && !env.pmi_of_srun(v)) {
      world = env.world(v);
      found = true;
      break;
    }
  }
  if (!found && env.in_slurm_step()) { world = env.slurm_world(); }
  world.run_id = env.run_id(world.launcher);
  world.file   = env.text("MOE_BOOTSTRAP_FILE");
  if (world.launcher == "torchrun" && (env.has("MASTER_ADDR") || env.has("MASTER_PORT"))) {
    if (!env.has("MASTER_ADDR")) { env.fail("MASTER_ADDR", "set, as MASTER_PORT is"); }
    world.master_addr = env.text("MASTER_ADDR");
    world.master_port = env.number("MASTER_PORT", 1, 65534, "65534");
  }
  return world;
}

}  // namespace moe::bootstrap
