// The trainer as a user meets it: a program, its options, its files.
#include <algorithm>
#include <cmath>
#include <fstream>
#include <string>
#include <vector>

#include "support/safetensors.hpp"
#include "train_lm_program.hpp"

namespace {

using namespace train_lm_program;

// On a file of some kilobytes.
Outcome run(std::string const& arguments)
{
  return run_in(MOE_SOURCE_DIR, "--files include/moe/layer/types.hpp " + small_model + arguments);
}

TEST_CASE("a short run learns, and says what it learnt")
{
  Folder const folder;
  auto const r = run("--steps 60 --sample-bytes 8 --log '" + folder / "log" + "'");
  INFO(r.text);
  CHECK(r.code == 0);
  auto const log = read_log(folder / "log");
  REQUIRE(log.size() == 60);
  CHECK(log[0][0] == 1);
  CHECK(log[0][1] > 5);  // log 256 = 5.5
  CHECK(log[59][1] < log[0][1] - 1.5);
  for (auto const& line : log) {
    CHECK(line[2] > 0.015);  // two blocks, each 0.01 where balanced
    CHECK(line[3] >= 1);
    CHECK(line[3] <= 4);
    CHECK(line[4] == 0);
  }
  for (char const* part : {"tokens/s",
                           "busiest expert",
                           "dropped 0.0%",
                           "s left",
                           "bigram",
                           "(smoothing",
                           "routed experts silenced:",
                           "-- given --",
                           "-- written --"}) {
    CAPTURE(part);
    CHECK(r.text.find(part) != std::string::npos);
  }
}

TEST_CASE("a run that is left and resumed gives the bits of one that was not")
{
  for (char const* policy : {"", "--router sigmoid-bias", "--router noisy", "--gate tempered"}) {
    CAPTURE(policy);
    Folder const folder;
    std::string const run_of = std::string(policy) + " --steps 6 --save ";
    auto const whole = run(run_of + (folder / "whole") + " --log " + (folder / "whole.log"));
    auto const first =
        run(run_of + (folder / "half") + " --stop-at 3 --log " + (folder / "first.log"));
    auto const second = run("--resume " + (folder / "half") + " --save " + (folder / "resumed") +
                            " --log " + (folder / "second.log"));
    INFO(first.text);
    INFO(second.text);
    REQUIRE(whole.code == 0);
    REQUIRE(first.code == 0);
    REQUIRE(second.code == 0);

    auto const title     = [](std::string const& log) { return log.substr(0, log.find('\n') + 1); };
    auto const whole_log = read(folder / "whole.log"), second_log = read(folder / "second.log");
    CHECK(read(folder / "first.log") + second_log.substr(title(second_log).size()) == whole_log);
    CHECK(read_log(folder / "whole.log").size() == 6);
    CHECK(line_of(second.text, "validation") == line_of(whole.text, "validation"));
    CHECK(line_of(second.text, "routed experts") == line_of(whole.text, "routed experts"));
    bool const same_bytes = read(folder / "resumed") == read(folder / "whole");
    CHECK(same_bytes);
    bool const learnt_nothing = read(folder / "half") == read(folder / "whole");
    CHECK(!learnt_nothing);

    auto const judged = run("--eval-only --resume " + (folder / "whole"));
    CHECK(line_of(judged.text, "validation") == line_of(whole.text, "validation"));
  }
}

TEST_CASE("one thread and three train alike")
{
  Folder const folder;
  CHECK(run("--steps 3 --threads 1 --save " + (folder / "one")).code == 0);
  CHECK(run("--steps 3 --threads 3 --save " + (folder / "three")).code == 0);
  bool const same_bytes = read(folder / "one") == read(folder / "three");
  CHECK(same_bytes);
}

TEST_CASE("every policy can be varied alone")
{
  Folder const folder;
  auto const log_of = [&](std::string const& policy) {
    auto const r = run("--steps 2 " + policy + " --log " + (folder / "log"));
    CAPTURE(policy);
    INFO(r.text);
    CHECK(r.code == 0);
    auto log = read_log(folder / "log");
    REQUIRE(log.size() == 2);
    for (auto const& line : log) {
      for (double const number : line) {
        CHECK(std::isfinite(number));
      }
    }
    bool const warns = r.text.find("sees the future") != std::string::npos;
    CHECK(warns == (policy.find("expert-choice") != std::string::npos));
    return log;
  };
  auto const standard = log_of("");
  for (char const* policy : {"--gate low-rank",
                             "--gate cosine",
                             "--gate tempered",
                             "--router sigmoid-bias",
                             "--router switch",
                             "--router noisy",
                             "--router expert-choice",
                             "--capacity position --capacity-factor 0.5",
                             "--capacity weight --capacity-factor 0.5",
                             "--capacity priority --capacity-factor 0.5",
                             "--experts geglu",
                             "--experts relu",
                             "--experts squared-relu",
                             "--experts gelu",
                             "--experts silu",
                             "--experts gpt-oss"}) {
    CAPTURE(policy);
    auto const log = log_of(policy);
    CHECK(log[1][1] != standard[1][1]);  // the option is not just swallowed
    bool const drops = std::string(policy).find("capacity") != std::string::npos;
    CHECK((log[0][4] > 0) == drops);
    if (drops) { CHECK(log[0][4] >= 0.5); }
  }
  // The same mathematics in another order, and in the same order.
  auto const after = log_of("--router softmax-after");
  CHECK(after[1][1] == doctest::Approx(standard[1][1]).epsilon(1e-5));
  CHECK(log_of("--dispatcher serial") == standard);
}

TEST_CASE("a checkpoint is a safetensors file")
{
  Folder const folder;
  REQUIRE(run("--steps 2 --router sigmoid-bias --save " + (folder / "it")).code == 0);
  auto const file = moe::test::Safetensors::read(folder / "it");
  auto const size = file.values<float>("parameters").size();
  CHECK(size > 256 * 16);
  CHECK(file.values<float>("adamw.m").size() == size);
  CHECK(file.values<float>("adamw.v").size() == size);
  CHECK(file.values<float>("selection_bias.0").size() == 4);
  CHECK(file.values<float>("selection_bias.1").size() == 4);
  CHECK(file.metadata().at("step") == "2");
  CHECK(file.metadata().at("option router") == "sigmoid-bias");
  auto const v = file.values<float>("adamw.v");
  CHECK(std::ranges::all_of(v, [](float x) { return x >= 0; }));
  CHECK(std::ranges::any_of(v, [](float x) { return x > 0; }));
}

TEST_CASE("what cannot be done is refused in one sentence")
{
  Folder const folder;
  REQUIRE(run("--steps 1 --save " + (folder / "good")).code == 0);
  std::string const good = read(folder / "good");
  auto const write       = [&](char const* name, std::string const& bytes) {
    std::ofstream(folder / name, std::ios::binary) << bytes;
    return folder / name;
  };
  auto const truncated = write("truncated", good.substr(0, good.size() - 4));
  auto const longer    = write("longer", good + "more");
  auto const short_one = write("short", good.substr(0, 20));
  auto const foreign   = write("foreign", "#include <moe/moe.hpp>\n");
  auto const little    = write("little", std::string(100, 'a'));
  std::string renamed  = good;
  renamed.replace(renamed.find("moe train_lm"), 12, "moe train_xx");
  auto const other = write("other", renamed);

  struct Case {
    std::string arguments, says;
  };
  for (auto const& [arguments, says] : std::vector<Case>{
           {"--gate cosine --router switch", "--experts swiglu|geglu|relu"},
           {"--gate round", "one of linear, low-rank, cosine, tempered"},
           {"--router=top-k", "one of softmax"},
           {"--fast", "no option --fast"},
           {"fast", "is no option"},
           {"--help=yes", "takes no value"},
           {"--steps", "needs a value"},
           {"--steps many", "whole number"},
           {"--steps 0", "whole number"},
           {"--steps 12x", "whole number"},
           {"--learning-rate nan", "above 0"},
           {"--learning-rate -1", "above 0"},
           {"--batch 99999999999999999999", "whole number"},
           {"--device gpu", "one of host, cuda"},
           {"--hidden 18 --heads 4", "multiple of twice --heads"},
           {"--capacity-factor 2", "needs --capacity"},
           {"--stop-at 1", "without --save"},
           {"--eval-only", "--resume"},
           {"--files /nowhere/at-all.txt", "no file /nowhere/at-all.txt"},
           {"--files " + little, "needs at least"},
           {"--save /nowhere/checkpoint", "cannot be written"},
           {"--log /nowhere/log", "cannot be written"},
           {"--save " + folder.string(), "cannot be written"},
           {"--resume /nowhere/checkpoint", "no checkpoint"},
           {"--resume " + truncated, "truncated"},
           {"--resume " + longer, "do not cover"},
           {"--resume " + short_one, "no checkpoint of this program"},
           {"--resume " + foreign, "no checkpoint of this program"},
           {"--resume " + other, "another program"},
           {"--resume " + (folder / "good") + " --steps 9", "cannot become 9"},
           {"", "no sources in this folder"},
       }) {
    auto const r = run_in(folder.string(), arguments);
    CAPTURE(arguments);
    INFO(r.text);
    CHECK(r.code == 2);
    CHECK(r.text.find(says) != std::string::npos);
    auto const last = r.text.rfind("train_lm: ");
    REQUIRE(last != std::string::npos);
    CHECK(std::ranges::count(r.text.substr(last), '\n') == 1);
    CHECK(r.text.find("loss") == std::string::npos);  // before any work
  }
}

TEST_CASE("without nvcc or without a GPU --device cuda is refused in one sentence")
{
  auto const r = run("--device cuda --steps 1");
  INFO(r.text);
#if defined(MOE_TRAIN_LM_WITH_CUDA)
  if (r.code == 0) { return; }  // here is a GPU
  CHECK(r.text.find("moe::Host works without") != std::string::npos);
#else
  CHECK(r.text.find("-DMOE_CUDA=ON") != std::string::npos);
#endif
  CHECK(r.code == 2);
  CHECK(std::ranges::count(r.text, '\n') == 1);
}

TEST_CASE("help names every policy and needs no text")
{
  Folder const folder;
  auto const r = run_in(folder.string(), "--help");
  CHECK(r.code == 0);
  for (char const* word :
       {"low-rank", "expert-choice", "priority", "serial", "gpt-oss", "host | cuda", "--resume"}) {
    CAPTURE(word);
    CHECK(r.text.find(word) != std::string::npos);
  }
}

}  // namespace
