// Who a process is, from its launcher's variables.
#include <moe/comm/bootstrap_env.hpp>

#include <map>
#include <string>
#include <vector>

#include <doctest/doctest.h>

using namespace moe;
using bootstrap::World;

namespace {

using Variables = std::map<std::string, std::string>;

World world_of(Variables const& variables)
{
  return bootstrap::from_env({.lookup = [&](char const* name) -> char const* {
    auto const at = variables.find(name);
    return at == variables.end() ? nullptr : at->second.c_str();
  }});
}

// The field that was refused, or what happened in place of it.
std::string refused_field(Variables const& variables)
{
  try {
    (void)world_of(variables);
  } catch (ValueError const& e) {
    auto const at   = variables.find(e.field);
    bool const told = at == variables.end() || at->second.empty()
                          ? e.value == "not set"
                          : e.value == "\"" + at->second + "\"";
    return told && !e.limit.empty() ? e.field : "another value: " + e.value;
  } catch (std::exception const& e) {
    return std::string("another error: ") + e.what();
  }
  return "no error";
}

struct Launcher {
  std::string name, rank, size, local_rank, local_size;
  Variables more = {};

  [[nodiscard]] Variables of(int r, int n, int lr, int ln) const
  {
    Variables v   = more;
    v[rank]       = std::to_string(r);
    v[size]       = std::to_string(n);
    v[local_rank] = std::to_string(lr);
    v[local_size] = std::to_string(ln);
    return v;
  }
};
// In the order in which they go before one another.
std::vector<Launcher> const launchers{
    {"moe", "MOE_RANK", "MOE_WORLD_SIZE", "MOE_LOCAL_RANK", "MOE_LOCAL_WORLD_SIZE"},
    {"torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"},
    {"mpirun",
     "OMPI_COMM_WORLD_RANK",
     "OMPI_COMM_WORLD_SIZE",
     "OMPI_COMM_WORLD_LOCAL_RANK",
     "OMPI_COMM_WORLD_LOCAL_SIZE"},
    {"mpirun", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"},
    {"slurm",
     "SLURM_PROCID",
     "SLURM_NTASKS",
     "SLURM_LOCALID",
     "SLURM_NTASKS_PER_NODE",
     {{"SLURM_STEP_ID", "0"}, {"SLURM_JOB_ID", "77"}}}};

}  // namespace

TEST_CASE("every launcher's variables, every rank of worlds 1 to 8")
{
  for (auto const& launcher : launchers) {
    for (int size = 1; size <= 8; ++size) {
      for (int local = 1; local <= size; ++local) {
        if (size % local != 0) { continue; }
        for (int rank = 0; rank < size; ++rank) {
          World const w = world_of(launcher.of(rank, size, rank % local, local));
          CHECK(w.launcher == launcher.name);
          CHECK(w.rank == rank);
          CHECK(w.size == size);
          CHECK(w.local_rank == rank % local);
          CHECK(w.local_size == local);
        }
      }
    }
    // What the launcher does not say is not made up, but where there is one answer.
    auto v = launcher.of(1, 3, 0, 1);
    v.erase(launcher.local_rank);
    v.erase(launcher.local_size);
    CHECK(world_of(v).local_rank == -1);
    CHECK(world_of(v).local_size == -1);
    v[launcher.rank] = "0";
    v[launcher.size] = "1";
    CHECK(world_of(v).local_rank == 0);
    CHECK(world_of(v).local_size == 1);
  }
}

TEST_CASE("nothing set is a world of one")
{
  for (Variables const& v :
       {Variables{},
        Variables{{"MOE_RANK", ""}, {"MOE_WORLD_SIZE", ""}},
        Variables{{"SLURM_NTASKS", "8"}, {"SLURM_JOB_ID", "1"}},
        // the shell and the script of a job
        Variables{{"SLURM_NTASKS", "8"}, {"SLURM_PROCID", "0"}, {"SLURM_STEP_ID", "4294967290"}},
        Variables{{"SLURM_NTASKS", "8"}, {"SLURM_PROCID", "0"}}}) {
    World const w = world_of(v);
    CHECK(w.launcher == "none");
    CHECK(w.rank == 0);
    CHECK(w.size == 1);
    CHECK(w.local_rank == 0);
    CHECK(w.local_size == 1);
    CHECK(w.run_id.empty());
  }
}

TEST_CASE("of two launchers' variables the nearer one's hold")
{
  for (std::size_t a = 0; a < launchers.size(); ++a) {
    for (std::size_t b = a + 1; b < launchers.size(); ++b) {
      auto v = launchers[a].of(3, 5, 1, 2);
      v.merge(launchers[b].of(1, 2, 0, 2));
      World const w = world_of(v);
      CHECK(w.launcher == launchers[a].name);
      CHECK(w.rank == 3);
      CHECK(w.size == 5);
      CHECK(w.local_rank == 1);
    }
  }
}

TEST_CASE("half of a set is refused with the variable that is missing")
{
  for (auto const& l : launchers) {
    bool const slurm = l.name == "slurm";
    for (unsigned set = 1; set < 16; ++set) {
      if ((set & 3) == 3) { continue; }
      if (slurm && (set & 1) == 0) { continue; }
      CAPTURE(l.name);
      CAPTURE(set);
      auto v       = l.of(0, 2, 0, 1);
      unsigned bit = 1;
      for (auto const& name : {l.rank, l.size, l.local_rank, l.local_size}) {
        if ((set & bit) == 0) { v.erase(name); }
        bit *= 2;
      }
      CHECK(refused_field(v) == ((set & 1) == 0 ? l.rank : l.size));
    }
  }
  CHECK(refused_field({{"SLURM_STEP_ID", "0"}, {"SLURM_NTASKS", "2"}}) == "SLURM_PROCID");
  CHECK(refused_field({{"SLURM_PROCID", "3"}, {"SLURM_NTASKS", "8"}}) == "SLURM_STEP_ID");
}

TEST_CASE("what is no number, negative or too large is refused with the variable")
{
  for (auto const& l : launchers) {
    for (auto const& name : {l.rank, l.size, l.local_rank, l.local_size}) {
      for (char const* bad :
           {"abc", "-1", "1.5", " 1", "1 ", "0x1", "+1", "1e0", "99999999999999999999"}) {
        CAPTURE(name);
        CAPTURE(bad);
        auto v  = l.of(1, 4, 1, 2);
        v[name] = bad;
        CHECK(refused_field(v) == name);
      }
    }
    CHECK(refused_field(l.of(4, 4, 0, 2)) == l.rank);
    CHECK(refused_field(l.of(0, 0, 0, 1)) == l.size);
    CHECK(refused_field(l.of(0, 4, 2, 2)) == l.local_rank);
    if (l.name != "slurm") { CHECK(refused_field(l.of(0, 4, 0, 5)) == l.local_size); }
  }
  try {
    (void)world_of({{"RANK", "4"}, {"WORLD_SIZE", "4"}});
    CHECK(false);
  } catch (ValueError const& e) {
    CHECK(std::string(e.what()) ==
          "moe::bootstrap::from_env: RANK is \"4\", must be an integer from 0 to WORLD_SIZE - 1 "
          "(3)");
  }
}

TEST_CASE("SLURM's tasks per node, node by node")
{
  auto const on = [](char const* list, int node) {
    Variables v{{"SLURM_STEP_ID", "3"},
                {"SLURM_JOB_ID", "12"},
                {"SLURM_PROCID", "9"},
                {"SLURM_NTASKS", "64"},          // of the job
                {"SLURM_STEP_NUM_TASKS", "12"},  // of the step
                {"SLURM_LOCALID", "0"}};
    v["SLURM_STEP_TASKS_PER_NODE"] = list;
    v["SLURM_NODEID"]              = std::to_string(node);
    return v;
  };
  int const expected[] = {4, 4, 3, 1};
  for (int node = 0; node < 4; ++node) {
    World const w = world_of(on("4(x2),3,1", node));
    CHECK(w.size == 12);
    CHECK(w.rank == 9);
    CHECK(w.local_size == expected[node]);
  }
  CHECK(world_of(on("4(x3)", 2)).local_size == 4);
  for (char const* bad : {"4(x2)", "x", "4(x2", "4(x),4,4,4", "4,,4,4", "13(x4)", "0(x4)", "-4"}) {
    CAPTURE(bad);
    CHECK(refused_field(on(bad, 3)) == "SLURM_STEP_TASKS_PER_NODE");
  }
  auto v             = on("4", 0);
  v["SLURM_LOCALID"] = "4";
  CHECK(refused_field(v) == "SLURM_LOCALID");
}

TEST_CASE("PMI's variables from srun: its own say more, as the place on the host")
{
  // srun --mpi=pmi2, two nodes, tasks dealt out in turn
  Variables v{{"PMI_RANK", "2"},
              {"PMI_SIZE", "4"},
              {"PMI_JOBID", "7.1"},
              {"SLURM_JOB_ID", "7"},
              {"SLURM_STEP_ID", "1"},
              {"SLURM_PROCID", "2"},
              {"SLURM_STEP_NUM_TASKS", "4"},
              {"SLURM_LOCALID", "1"},
              {"SLURM_NODEID", "0"},
              {"SLURM_STEP_TASKS_PER_NODE", "2(x2)"}};
  World const w = world_of(v);
  CHECK(w.launcher == "slurm");
  CHECK(w.rank == 2);
  CHECK(w.size == 4);
  CHECK(w.local_rank == 1);
  CHECK(w.local_size == 2);
  CHECK(w.run_id == "slurm 7.1 restart ");

  // mpiexec within a step of other tasks, or one that says the place itself
  auto const is_mpirun = [](Variables const& variables) {
    World const other = world_of(variables);
    return other.launcher == "mpirun" && other.rank == 2 && other.size == 4;
  };
  auto other                    = v;
  other["SLURM_STEP_NUM_TASKS"] = "2";
  CHECK(is_mpirun(other));
  other                 = v;
  other["SLURM_PROCID"] = "1";
  CHECK(is_mpirun(other));
  other                    = v;
  other["MPI_LOCALRANKID"] = "0";
  other["MPI_LOCALNRANKS"] = "1";
  CHECK(is_mpirun(other));
  CHECK(world_of(other).local_rank == 0);
}

TEST_CASE("a start has an id where its launcher gives one, and no other start has it")
{
  auto const with = [](Launcher const& l, Variables more) {
    more.merge(l.of(0, 2, 0, 2));
    return world_of(more).run_id;
  };
  for (auto const& l : launchers) {
    CHECK(with(l, {{"MOE_RUN_ID", "mine"}, {"PMIX_NAMESPACE", "x"}}) == "mine");
  }
  CHECK(with(launchers[0], {}).empty());
  CHECK(with(launchers[1], {{"TORCHELASTIC_RUN_ID", "none"}}).empty());
  CHECK(with(launchers[1], {{"TORCHELASTIC_RUN_ID", "a"}, {"TORCHELASTIC_RESTART_COUNT", "0"}}) !=
        with(launchers[1], {{"TORCHELASTIC_RUN_ID", "a"}, {"TORCHELASTIC_RESTART_COUNT", "1"}}));
  CHECK(with(launchers[2], {{"PMIX_NAMESPACE", "a"}}) != with(launchers[2], {}));
  // Open MPI 4's number is a hash of host and process number; its key is random.
  for (char const* name : {"PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid"}) {
    char const* const key = "OMPI_MCA_orte_precondition_transports";
    CHECK(with(launchers[2], {{name, "a"}, {key, "1"}}) ==
          with(launchers[2], {{name, "a"}, {key, "1"}}));
    CHECK(with(launchers[2], {{name, "a"}, {key, "1"}}) !=
          with(launchers[2], {{name, "a"}, {key, "2"}}));
    CHECK(with(launchers[2], {{name, "a"}, {key, "1"}}) !=
          with(launchers[2], {{name, "b"}, {key, "1"}}));
  }
  // Several mpiruns may start within one step, with as many ranks as it has tasks: it is not their
  // id.
  CHECK(with(launchers[3],
             {{"SLURM_JOB_ID", "5"},
              {"SLURM_STEP_ID", "1"},
              {"SLURM_PROCID", "0"},
              {"SLURM_STEP_NUM_TASKS", "2"}})
            .empty());
  CHECK(with(launchers[4], {{"SLURM_JOB_ID", "5"}}) != with(launchers[4], {{"SLURM_JOB_ID", "6"}}));
}

TEST_CASE("torchrun's address and port")
{
  auto v           = launchers[1].of(1, 2, 1, 2);
  v["MASTER_ADDR"] = "node7";
  CHECK(refused_field(v) == "MASTER_PORT");
  for (char const* bad : {"0", "65535", "x", "-1"}) {
    v["MASTER_PORT"] = bad;
    CHECK(refused_field(v) == "MASTER_PORT");
  }
  v["MASTER_PORT"] = "29500";
  CHECK(world_of(v).master_addr == "node7");
  CHECK(world_of(v).master_port == 29500);
  v["MASTER_ADDR"] = "";
  CHECK(refused_field(v) == "MASTER_ADDR");
}

TEST_CASE("the shared file's name is taken from the environment, whatever the launcher")
{
  CHECK(world_of({{"MOE_BOOTSTRAP_FILE", "/shared/f"}}).file == "/shared/f");
  for (auto const& l : launchers) {
    auto v                  = l.of(0, 2, 0, 2);
    v["MOE_BOOTSTRAP_FILE"] = "/shared/f";
    CHECK(world_of(v).file == "/shared/f");
  }
}
