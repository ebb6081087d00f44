#pragma once
// The text: which files, which parts of it are trained on and which judge, and what a step reads.
#include <cstdint>
#include <string>
#include <vector>

#include <moe/core/view.hpp>

namespace train_lm {

using moe::Id;
using moe::index_t;

// Consecutive bytes, and the byte that follows each of them.
struct Windows {
  index_t count = 0, context = 0;
  std::vector<Id> token, target;  // (count * context)
};

// A byte with the probabilities softmax(logits (V) / temperature); `draw` in (0, 1) picks it.
[[nodiscard]] unsigned char draw_byte(std::vector<float> const& logits,
                                      double temperature,
                                      double draw);

// Text cut into pieces of 4 KiB (less where there is little text), every tenth kept for validation:
// a split by files would judge a small corpus by the style of a few files. No window crosses a
// border, so training never reads a byte that validation predicts.
class Corpus {
 public:
  // Files as named; folders give their source and text files. Sorted by path. Nothing named: the
  // sources of the project in the current folder. Throws Refused.
  [[nodiscard]] static Corpus read(std::vector<std::string> const& named, index_t context);
  Corpus(std::string text, index_t context);

  // Of what step `step` trains on, windows [first, first + count), each a function of (seed, step).
  [[nodiscard]] Windows batch(std::uint64_t seed,
                              index_t step,
                              index_t count,
                              index_t first = 0) const;
  // Validation windows, side by side, at most `bytes` in all, spread evenly.
  [[nodiscard]] Windows validation(index_t bytes) const;

  [[nodiscard]] std::vector<std::string> const& files() const { return files_; }
  [[nodiscard]] std::vector<std::string> const& training_pieces() const { return training_; }
  [[nodiscard]] index_t training_bytes() const;
  [[nodiscard]] index_t fingerprint() const { return fingerprint_; }

 private:
  struct Start {
    std::uint32_t piece, at;
  };
  void append(Windows& to, std::string const& piece, std::size_t at) const;

  index_t context_;
  std::vector<std::string> files_;
  std::vector<std::string> training_, validation_;
  std::vector<Start> starts_;  // of every window in the training pieces
  index_t fingerprint_ = 0;    // of the whole text
};

}  // namespace train_lm
