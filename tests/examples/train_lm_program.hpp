#pragma once
// train_lm as a program that tests start, and the files that it writes.
#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>

namespace train_lm_program {

namespace fs = std::filesystem;

// A folder of its own, gone afterwards.
class Folder {
 public:
  Folder()
  {
    std::string name = (fs::temp_directory_path() / "moe_train_lm_XXXXXX").string();
    REQUIRE(mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  Folder(Folder const&)            = delete;
  Folder& operator=(Folder const&) = delete;
  ~Folder()
  {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  [[nodiscard]] std::string operator/(char const* name) const { return (path_ / name).string(); }
  [[nodiscard]] std::string string() const { return path_.string(); }

 private:
  fs::path path_;
};

struct Outcome {
  int code;
  std::string text;  // both streams
};

// A command of the shell.
inline Outcome shell_in(std::string const& folder, std::string const& words)
{
  std::string const command = "cd '" + folder + "' && { " + words + "; } 2>&1";
  std::FILE* const pipe     = popen(command.c_str(), "r");
  REQUIRE(pipe != nullptr);
  std::string text;
  char buffer[4096];
  for (std::size_t n; (n = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;) {
    text.append(buffer, n);
  }
  int const status = pclose(pipe);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, text};
}

inline Outcome run_in(std::string const& folder, std::string const& arguments)
{
  return shell_in(folder, "'" MOE_TRAIN_LM "' " + arguments);
}

// A model of some thousand parameters.
inline std::string const small_model =
    "--layers 2 --hidden 16 --heads 2 --expert-count 4 --ffn 8 --shared-ffn 8 --context 16 "
    "--batch 4 --validation-bytes 256 --sample-bytes 0 --log-every 1 --threads 2 ";

inline std::string read(std::string const& path)
{
  std::ifstream in(path, std::ios::binary);
  REQUIRE_MESSAGE(in, path);
  return {std::istreambuf_iterator<char>(in), {}};
}

// Lines of a log without its title: step, loss, balance loss, worst load, dropped.
inline std::vector<std::vector<double>> read_log(std::string const& path)
{
  std::istringstream lines(read(path));
  std::vector<std::vector<double>> table;
  std::string line;
  std::getline(lines, line);
  while (std::getline(lines, line)) {
    std::istringstream fields(line);
    table.emplace_back(std::istream_iterator<double>(fields), std::istream_iterator<double>());
    REQUIRE(table.back().size() == 5);
  }
  return table;
}

// What the line that begins so says.
inline std::string line_of(std::string const& text, std::string const& beginning)
{
  auto const at = text.find("\n" + beginning);
  REQUIRE_MESSAGE(at != std::string::npos, text);
  return text.substr(at + 1, text.find('\n', at + 1) - at - 1);
}

}  // namespace train_lm_program
