#pragma once
// Checkpoints: safetensors files of float tensors (8 bytes of header length, a JSON header, the
// tensors' bytes), so that other programs can read them. Written beside and then renamed, so that
// an interrupted save leaves the old file whole.
#include <map>
#include <string>
#include <vector>

#include <moe/core/view.hpp>

namespace train_lm {

struct StoredTensor {
  std::vector<moe::index_t> shape;
  std::vector<float> values;
};

struct Checkpoint {
  std::map<std::string, std::string> metadata;
  std::map<std::string, StoredTensor> tensors;

  // Both throw Refused: that tensor, of so many elements; that whole number of the metadata.
  [[nodiscard]] StoredTensor const& tensor(std::string const& name, moe::index_t elements) const;
  [[nodiscard]] moe::index_t number(std::string const& name) const;
};

// All throw Refused. load() reads what save() wrote and refuses anything else: a truncated or
// foreign file, a header that does not cover the file exactly. check_writable() says before a long
// run what save() would say after it.
void check_writable(std::string const& path);
void save_checkpoint(std::string const& path, Checkpoint const& checkpoint);
[[nodiscard]] Checkpoint load_checkpoint(std::string const& path);

}  // namespace train_lm
