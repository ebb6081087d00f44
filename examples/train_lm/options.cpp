#include "options.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <set>

#include "option_table.hpp"

namespace train_lm {
namespace {

std::string joined(Names const& names, char const* between)
{
  std::string text;
  for (auto const& n : names) {
    text += (text.empty() ? "" : between) + n;
  }
  return text;
}

Option const& find(std::string const& name)
{
  for (auto const& o : option_table()) {
    if (o.name == name) { return o; }
  }
  throw Refused("There is no option --" + name + "; --help lists those there are.");
}

template <class T>
bool parses(std::string const& text, T& value)
{
  auto const end    = text.data() + text.size();
  auto const result = std::from_chars(text.data(), end, value);
  return result.ec == std::errc{} && result.ptr == end;
}

void set(Options& options, Option const& option, std::string const& text)
{
  auto const refuse = [&](std::string const& must_be) {
    throw Refused("--" + option.name + " is \"" + text + "\", but must be " + must_be + ".");
  };
  if (auto const* whole = std::get_if<Whole>(&option.value)) {
    std::int64_t value = 0;
    if (!parses(text, value) || value < whole->least || value > whole->most) {
      refuse("a whole number in " + std::to_string(whole->least) + " ... " +
             std::to_string(whole->most));
    }
    options.*whole->of = value;
  } else if (auto const* real = std::get_if<Real>(&option.value)) {
    double value = 0;
    if (!parses(text, value) || !std::isfinite(value) || !(value > 0)) {
      refuse("a number above 0");
    }
    options.*real->of = value;
  } else if (auto const* some = std::get_if<Text>(&option.value)) {
    if (!some->allowed.empty() && std::ranges::count(some->allowed, text) == 0) {
      refuse("one of " + joined(some->allowed, ", "));
    }
    options.*some->of = text;
  } else if (auto const* list = std::get_if<List>(&option.value)) {
    (options.*list->of).push_back(text);
  }
}

std::string get(Options options, Option const& option)
{
  if (auto const* whole = std::get_if<Whole>(&option.value)) {
    return std::to_string(options.*whole->of);
  }
  if (auto const* real = std::get_if<Real>(&option.value)) {
    char text[32];
    std::snprintf(text, sizeof text, "%.17g", options.*real->of);
    return text;
  }
  if (auto const* some = std::get_if<Text>(&option.value)) { return options.*some->of; }
  return {};
}

// --name value, --name=value, --files value value ...; says which options were named.
std::set<std::string> read(std::vector<std::string> const& arguments, Options& options)
{
  std::set<std::string> named;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    std::string const& argument = arguments[i];
    if (argument.rfind("--", 0) != 0) {
      throw Refused("\"" + argument + "\" is no option; files are named after --files.");
    }
    auto const equals    = argument.find('=');
    bool const inside    = equals != std::string::npos;
    auto const name      = argument.substr(2, inside ? equals - 2 : equals);
    Option const& option = find(name);
    named.insert(option.name);
    auto const has_next = [&] {
      return i + 1 < arguments.size() && arguments[i + 1].rfind("--", 0) != 0;
    };
    if (auto const* flag = std::get_if<Flag>(&option.value)) {
      if (inside) { throw Refused("--" + option.name + " takes no value."); }
      options.*flag->of = true;
    } else if (inside) {
      set(options, option, argument.substr(equals + 1));
    } else if (!has_next()) {
      throw Refused("--" + option.name + " needs a value.");
    } else {
      set(options, option, arguments[++i]);
      while (std::holds_alternative<List>(option.value) && has_next()) {
        set(options, option, arguments[++i]);
      }
    }
  }
  return named;
}

// Policies that are not their default.
Names changed_policies(Options const& o)
{
  Options const standard;
  Names changed;
  for (auto const& option : option_table()) {
    if (option.part == Part::policy && get(o, option) != get(standard, option)) {
      changed.push_back("--" + option.name + " " + get(o, option));
    }
  }
  return changed;
}

void check(Options const& o, std::set<std::string> const& named)
{
  Names const changed = changed_policies(o);
  Names choices;
  for (auto const& option : option_table()) {
    if (option.part != Part::policy) { continue; }
    choices.push_back("--" + option.name + " " + joined(std::get<Text>(option.value).allowed, "|"));
  }
  if (changed.size() > 1) {
    throw Refused(joined(changed, " and ") +
                  ": this program has each policy varied alone, one of: " + joined(choices, "; ") +
                  ".");
  }
  if (named.count("capacity-factor") > 0 && o.capacity == "dropless") {
    throw Refused("--capacity-factor needs --capacity position, weight or priority.");
  }
  if (o.hidden % (2 * o.heads) != 0) {
    throw Refused("--hidden " + std::to_string(o.hidden) + " must be a multiple of twice --heads " +
                  std::to_string(o.heads) + ", since positions turn pairs of a head's numbers.");
  }
  if (o.context * o.batch > 64 << 20) {
    throw Refused("--context times --batch is more than 64 Mi bytes.");
  }
  if (o.stop_at > 0 && o.save.empty()) {
    throw Refused("--stop-at without --save would lose what was learnt.");
  }
  if (o.eval_only && o.resume.empty()) {
    throw Refused("--eval-only needs a model: name its checkpoint with --resume.");
  }
  if (o.processes && o.device != "cuda") {
    throw Refused(
        "--processes needs --device cuda, where NCCL is between them; ranks on the host are "
        "threads, --ranks.");
  }
  if (o.processes && o.ranks > 1) {
    throw Refused("--ranks is of threads; with --processes the launcher says how many there are.");
  }
  check_ranks(o, o.ranks);
}

}  // namespace

void check_ranks(Options const& options, std::int64_t ranks)
{
  if (options.reproducible && options.products == "blas") {
    throw Refused("--reproducible needs --products own, not blas: a BLAS promises no bits.");
  }
  if (ranks == 1 && !options.reproducible) { return; }
  Names const changed = changed_policies(options);
  if (!changed.empty()) {
    throw Refused("--ranks, --processes and --reproducible have the default policies, not " +
                  joined(changed, " and ") + ".");
  }
  if (ranks > options.batch) {
    throw Refused(std::to_string(ranks) +
                  " ranks need a sequence each of a batch, but --batch is " +
                  std::to_string(options.batch) + ".");
  }
}

bool Options::is_default_run() const
{
  return run_settings(*this) == run_settings(Options{}) && files.empty() && !eval_only &&
         stop_at == 0;
}

Options parse_options(std::vector<std::string> const& arguments)
{
  Options options;
  auto const named = read(arguments, options);
  if (!options.help) { check(options, named); }
  return options;
}

RunSettings run_settings(Options const& options)
{
  RunSettings settings;
  for (auto const& option : option_table()) {
    if (option.part != Part::call) { settings[option.name] = get(options, option); }
  }
  return settings;
}

Options resumed(Options const& options,
                std::vector<std::string> const& arguments,
                RunSettings const& settings)
{
  Options result   = options;
  Options as_named = options;
  auto const named = read(arguments, as_named);
  for (auto const& option : option_table()) {
    if (option.part == Part::call) { continue; }
    auto const setting = settings.find(option.name);
    if (setting == settings.end()) {
      throw Refused("The checkpoint does not say what --" + option.name + " was.");
    }
    set(result, option, setting->second);
    if (named.count(option.name) > 0 && get(as_named, option) != get(result, option)) {
      throw Refused("--" + option.name + " is " + get(result, option) +
                    " in the checkpoint, so it cannot become " + get(as_named, option) + ".");
    }
  }
  check(result, {});
  return result;
}

std::string help_text()
{
  std::string text =
      "train_lm: trains a small byte-level language model with mixture-of-experts blocks.\n"
      "Each policy can be varied alone, so that they are compared on the same run.\n";
  Part part = Part::call;
  for (auto const& option : option_table()) {
    if (option.part != part) {
      part = option.part;
      text += part == Part::policy ? "\npolicies (the first one named is the default)\n"
              : part == Part::run  ? "\nthe run (kept in the checkpoint)\n"
                                   : "\nthis call\n";
    }
    auto const* some     = std::get_if<Text>(&option.value);
    std::string line     = "  --" + option.name;
    std::string const of = get(Options{}, option);
    line.resize(std::max<std::size_t>(line.size() + 1, 22), ' ');
    text += line + option.help;
    if (some != nullptr && !some->allowed.empty()) {
      text += "\n" + std::string(24, ' ') + joined(some->allowed, " | ");
    } else if (auto const* real = std::get_if<Real>(&option.value)) {
      Options standard;
      char number[32];
      std::snprintf(number, sizeof number, " (%g)", standard.*real->of);
      text += number;
    } else if (std::holds_alternative<Whole>(option.value)) {
      text += " (" + of + ")";
    }
    text += "\n";
  }
  return text;
}

}  // namespace train_lm
