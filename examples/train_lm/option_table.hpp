#pragma once
// The options as data: where each is kept, what it may be, and what --help says of it.
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "options.hpp"

namespace train_lm {

using Names = std::vector<std::string>;

struct Whole {  // a whole number within limits
  std::int64_t Options::* of;
  std::int64_t least, most;
};
struct Real {  // above 0
  double Options::* of;
};
struct Text {
  std::string Options::* of;
  Names allowed;  // empty: anything
};
struct Flag {
  bool Options::* of;
};
struct List {
  std::vector<std::string> Options::* of;
};

// A policy, which can be varied alone; what else shapes the run; what concerns this call only.
enum class Part { policy, run, call };

struct Option {
  std::string name;
  Part part;
  std::variant<Whole, Real, Text, Flag, List> value;
  std::string help;
};

[[nodiscard]] std::vector<Option> const& option_table();

}  // namespace train_lm
