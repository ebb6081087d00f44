#include "data.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>

#include <moe/core/random.hpp>

#include "options.hpp"

namespace train_lm {
namespace {

namespace fs = std::filesystem;

bool is_text(fs::path const& path)
{
  static constexpr std::array<char const*, 12> endings{
      ".hpp", ".cpp", ".cuh", ".cu", ".h", ".c", ".cc", ".md", ".txt", ".cmake", ".py", ".in"};
  return std::ranges::count(endings, path.extension().string()) > 0;
}

std::vector<std::string> find_files(std::vector<std::string> named)
{
  if (named.empty()) {
    for (auto const* name :
         {"README.md", "CMakeLists.txt", "cmake", "include", "examples", "tests", "bench"}) {
      if (fs::exists(name)) { named.emplace_back(name); }
    }
    if (named.empty()) {
      throw Refused(
          "There are no sources in this folder: run from the project's own, or name text with "
          "--files.");
    }
  }
  std::vector<std::string> files;
  for (auto const& name : named) {
    if (fs::is_directory(name)) {
      for (auto const& entry : fs::recursive_directory_iterator(name)) {
        if (entry.is_regular_file() && is_text(entry.path())) {
          files.push_back(entry.path().generic_string());
        }
      }
    } else if (fs::is_regular_file(name)) {
      files.push_back(name);
    } else {
      throw Refused("There is no file " + name + ".");
    }
  }
  std::ranges::sort(files);
  files.erase(std::unique(files.begin(), files.end()), files.end());
  return files;
}

// FNV-1a, of which a checkpoint keeps 63 bits
index_t hash(std::string const& text)
{
  std::uint64_t h = 0xcbf29ce484222325u;
  for (char const c : text) {
    h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  }
  return static_cast<index_t>(h >> 1);
}

}  // namespace

unsigned char draw_byte(std::vector<float> const& logits, double temperature, double draw)
{
  double const largest = static_cast<double>(*std::ranges::max_element(logits));
  std::vector<double> until;  // cumulative
  for (float const z : logits) {
    double const p = std::exp((static_cast<double>(z) - largest) / temperature);
    until.push_back((until.empty() ? 0 : until.back()) + p);
  }
  auto const found = std::ranges::upper_bound(until, draw * until.back());
  return static_cast<unsigned char>(
      std::min<std::ptrdiff_t>(found - until.begin(), std::ssize(logits) - 1));
}

Corpus Corpus::read(std::vector<std::string> const& named, index_t context)
{
  auto const files = find_files(named);
  std::string text;
  for (auto const& file : files) {
    std::ifstream in(file, std::ios::binary);
    if (!in) { throw Refused("The file " + file + " cannot be read."); }
    text.append(std::istreambuf_iterator<char>(in), {});
  }
  Corpus corpus(std::move(text), context);
  corpus.files_ = files;
  return corpus;
}

Corpus::Corpus(std::string text, index_t context) : context_{context}, fingerprint_{hash(text)}
{
  constexpr std::size_t pieces = 20, largest_piece = 4096;
  auto const window = static_cast<std::size_t>(context) + 1;
  if (text.size() < pieces * window) {
    throw Refused("The text has " + std::to_string(text.size()) + " bytes, but --context " +
                  std::to_string(context) + " needs at least " + std::to_string(pieces * window) +
                  ".");
  }
  if (text.size() > 0xffffffffu) { throw Refused("The text has more than 4 GiB."); }
  std::size_t const size = std::max(window, std::min(largest_piece, text.size() / pieces));
  for (std::size_t piece = 0; piece * size < text.size(); ++piece) {
    std::string const bytes = text.substr(piece * size, size);
    if (piece % 10 == 9) {
      validation_.push_back(bytes);
    } else if (piece % 10 == 0 || training_.empty()) {
      training_.push_back(bytes);
    } else {
      training_.back() += bytes;  // pieces side by side are one
    }
  }
  for (std::size_t p = 0; p < training_.size(); ++p) {
    for (std::size_t at = 0; at + window <= training_[p].size(); ++at) {
      starts_.push_back({static_cast<std::uint32_t>(p), static_cast<std::uint32_t>(at)});
    }
  }
}

index_t Corpus::training_bytes() const
{
  std::size_t n = 0;
  for (auto const& piece : training_) {
    n += piece.size();
  }
  return static_cast<index_t>(n);
}

void Corpus::append(Windows& to, std::string const& piece, std::size_t at) const
{
  for (index_t i = 0; i < context_; ++i, ++at) {
    to.token.push_back(static_cast<unsigned char>(piece[at]));
    to.target.push_back(static_cast<unsigned char>(piece[at + 1]));
  }
  ++to.count;
}

Windows Corpus::batch(std::uint64_t seed, index_t step, index_t count, index_t first) const
{
  Windows windows{.count = 0, .context = context_, .token = {}, .target = {}};
  for (index_t i = first; i < first + count; ++i) {
    auto const at   = static_cast<std::uint64_t>(step);
    auto const bits = moe::philox4x32(
        {{static_cast<std::uint32_t>(at),
          static_cast<std::uint32_t>(at >> 32),
          static_cast<std::uint32_t>(i),
          0x64617461u}},  // apart from the weights' numbers
        {{static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)}});
    // The high word of a product spreads 32 random bits over any number of places.
    Start const start = starts_[bits[0] * starts_.size() >> 32];
    append(windows, training_[start.piece], start.at);
  }
  return windows;
}

Windows Corpus::validation(index_t bytes) const
{
  auto const context = static_cast<std::size_t>(context_);
  std::vector<Start> all;
  for (std::size_t p = 0; p < validation_.size(); ++p) {
    for (std::size_t at = 0; at + context < validation_[p].size(); at += context) {
      all.push_back({static_cast<std::uint32_t>(p), static_cast<std::uint32_t>(at)});
    }
  }
  std::size_t const count =
      std::clamp<std::size_t>(static_cast<std::size_t>(bytes) / context, 1, all.size());
  Windows windows{.count = 0, .context = context_, .token = {}, .target = {}};
  for (std::size_t i = 0; i < count; ++i) {
    Start const start = all[i * all.size() / count];
    append(windows, validation_[start.piece], start.at);
  }
  return windows;
}

}  // namespace train_lm
