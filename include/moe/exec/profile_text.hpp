#pragma once
// A profiler's report as a table, a line of CSV or JSON.
#include <cmath>
#include <cstdio>
#include <string>

#include <moe/exec/profile_report.hpp>

namespace moe {
namespace detail {

struct Metric {
  char const* name;  // of the column in CSV, of the member in JSON
  double value;
};
inline Array<Metric, 12> metrics_of(ProfileReport const& r)
{
  return {Metric{"router_ms", r.router_ms},
          {"dispatch_ms", r.dispatch_ms},
          {"experts_ms", r.experts_ms},
          {"combine_ms", r.combine_ms},
          {"communication_ms", r.communication_ms},
          {"overlap", r.overlap},
          {"communication_to_computation", r.communication_to_computation},
          {"bytes_sent", r.bytes_sent},
          {"bus_bandwidth", r.bus_bandwidth},
          {"dropped", r.dropped},
          {"load_max_over_mean", r.load_max_over_mean},
          {"arena_bytes", r.arena_bytes}};
}

inline std::string formatted(char const* format, double value, char const* nothing)
{
  if (!std::isfinite(value)) { return nothing; }
  char text[64];
  std::snprintf(text, sizeof text, format, value);
  return text;
}
inline void pad(std::string& line, std::string const& text, std::size_t width)
{
  line.append(text.size() < width ? width - text.size() : 0, ' ').append(text);
}

}  // namespace detail

// The phases of the passes that were run, then the twelve metrics.
[[nodiscard]] inline std::string to_text(ProfileReport const& r)
{
  constexpr std::size_t name = 14, number = 10;
  constexpr char const* columns[ProfileReport::passes] = {
      "forward", "backward", "evaluate", "outside"};
  auto const column = [&](int p) -> auto const& { return r.times[p]; };
  auto const used   = [&](int p) {
    double calls = 0;
    for (int i = 0; i < ProfileReport::rows; ++i) {
      calls += column(p)[i].calls;
    }
    return calls > 0;
  };
  std::string text = "ms of a step  ", line;
  for (int p = 0; p < ProfileReport::passes; ++p) {
    if (used(p)) { detail::pad(text, columns[p], number); }
  }
  detail::pad(text, "all", number);
  detail::pad(text, "calls", number);
  text += '\n';
  PhaseTime all;
  Array<double, ProfileReport::passes> sums{};
  for (int i = 0; i < ProfileReport::rows; ++i) {
    bool const is_other = i == stage_phases;
    line                = is_other ? "other" : name_of(static_cast<Phase>(i));
    line.append(name - line.size(), ' ');
    PhaseTime sum;
    for (int p = 0; p < ProfileReport::passes; ++p) {
      if (!used(p)) { continue; }
      auto const t = column(p)[i];
      detail::pad(line, t.calls > 0 ? detail::formatted("%.3f", t.ms, "-") : "", number);
      sum.ms += t.ms;
      sum.calls += t.calls;
      sums[p] += t.ms;
    }
    if (sum.calls <= 0) { continue; }
    all.ms += sum.ms;
    detail::pad(line, detail::formatted("%.3f", sum.ms, "-"), number);
    detail::pad(line, is_other ? "" : detail::formatted("%.1f", sum.calls, "-"), number);
    text += line.substr(0, line.find_last_not_of(' ') + 1) + '\n';
  }
  line = "all           ";
  for (int p = 0; p < ProfileReport::passes; ++p) {
    if (used(p)) { detail::pad(line, detail::formatted("%.3f", sums[p], "-"), number); }
  }
  detail::pad(line, detail::formatted("%.3f", all.ms, "-"), number);
  text += line + '\n';

  auto const metric = [&](char const* label, std::string const& value, char const* unit) {
    text += label;
    text.append(30 - std::char_traits<char>::length(label), ' ');
    text += value == "-" ? value : value + unit;
    text += '\n';
  };
  using detail::formatted;
  metric("steps", formatted("%.0f", static_cast<double>(r.steps), "-"), "");
  metric("communication", formatted("%.3f", r.communication_ms, "-"), " ms");
  metric("overlap", formatted("%.1f", 100 * r.overlap, "-"), " % of communication");
  metric("communication / computation", formatted("%.3f", r.communication_to_computation, "-"), "");
  metric("sent", formatted("%.3f", r.bytes_sent / 1e6, "-"), " MB");
  metric("bus bandwidth", formatted("%.3f", r.bus_bandwidth / 1e9, "-"), " GB/s");
  metric("dropped", formatted("%.2f", 100 * r.dropped, "-"), " % of assignments");
  metric("busiest expert", formatted("%.2f", r.load_max_over_mean, "-"), " x mean");
  metric("memory at most", formatted("%.3f", r.arena_bytes / 1e6, "-"), " MB");
  return text;
}

// The twelve metrics: the names of the columns, and a line of values ("" where there is none).
[[nodiscard]] inline std::string csv_header()
{
  std::string line = "steps";
  for (auto const& m : detail::metrics_of({})) {
    line.append(",").append(m.name);
  }
  return line;
}
[[nodiscard]] inline std::string to_csv(ProfileReport const& r)
{
  std::string line = std::to_string(r.steps);
  for (auto const& m : detail::metrics_of(r)) {
    line.append(",").append(detail::formatted("%.9g", m.value, ""));
  }
  return line;
}
// The same and all phases, on one line.
[[nodiscard]] inline std::string to_json(ProfileReport const& r)
{
  constexpr char const* passes[ProfileReport::passes] = {
      "forward", "backward", "evaluate", "outside"};
  std::string line = "{\"steps\":" + std::to_string(r.steps);
  for (auto const& m : detail::metrics_of(r)) {
    line.append(",\"").append(m.name).append("\":").append(
        detail::formatted("%.9g", m.value, "null"));
  }
  for (int p = 0; p < ProfileReport::passes; ++p) {
    line.append(",\"").append(passes[p]).append("\":{");
    for (int i = 0; i < ProfileReport::rows; ++i) {
      auto const t = r.times[p][i];
      line.append(i > 0 ? ",\"" : "\"")
          .append(i == stage_phases ? "other" : name_of(static_cast<Phase>(i)))
          .append("\":{\"ms\":")
          .append(detail::formatted("%.9g", t.ms, "null"))
          .append(",\"calls\":")
          .append(detail::formatted("%.9g", t.calls, "null"))
          .append("}");
    }
    line.append("}");
  }
  return line.append("}");
}

}  // namespace moe
