#include "checkpoint.hpp"

#include <bit>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>

#include "options.hpp"

namespace train_lm {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors are little-endian");

constexpr char const* format = "moe train_lm 1";

std::string beside_of(std::string const& path)
{
  return path + ".part";
}

std::string quoted(std::string const& text)
{
  std::string out = "\"";
  for (char const c : text) {
    if (c == '"' || c == '\\') { out += '\\'; }
    out += c;
  }
  return out + '"';
}

std::string header_of(Checkpoint const& checkpoint)
{
  std::ostringstream out;
  out << "{\"__metadata__\":{\"format\":" << quoted(format);
  for (auto const& [key, value] : checkpoint.metadata) {
    if (key != "format") { out << ',' << quoted(key) << ':' << quoted(value); }
  }
  out << '}';
  std::uint64_t offset = 0;
  for (auto const& [name, tensor] : checkpoint.tensors) {
    out << ',' << quoted(name) << ":{\"dtype\":\"F32\",\"shape\":[";
    for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
      out << (i == 0 ? "" : ",") << tensor.shape[i];
    }
    std::uint64_t const end = offset + tensor.values.size() * sizeof(float);
    out << "],\"data_offsets\":[" << offset << ',' << end << "]}";
    offset = end;
  }
  out << '}';
  std::string header = out.str();
  header.resize((header.size() + 7) / 8 * 8, ' ');  // tensors start on 8 bytes
  return header;
}

// Reads the JSON that safetensors headers are made of: objects, strings, whole numbers, arrays.
class HeaderReader {
 public:
  explicit HeaderReader(std::string text) : text_{std::move(text)} {}

  // {"key": value, ...}; `member(key)` reads the value
  template <class Member>
  void object(Member const& member)
  {
    sequence('{', '}', [&] {
      std::string const key = string();
      expect(':');
      member(key);
    });
  }
  std::string string()
  {
    expect('"');
    std::string out;
    while (at_ < text_.size() && text_[at_] != '"') {
      if (text_[at_] == '\\') { ++at_; }
      if (at_ < text_.size()) { out += text_[at_++]; }
    }
    expect('"');
    return out;
  }
  std::vector<std::uint64_t> numbers()
  {
    std::vector<std::uint64_t> out;
    sequence('[', ']', [&] { out.push_back(number()); });
    return out;
  }
  void end()
  {
    skip_spaces();
    if (at_ != text_.size()) { fail(); }
  }

 private:
  template <class Item>
  void sequence(char open, char close, Item const& item)
  {
    expect(open);
    if (next() == close) {
      ++at_;
      return;
    }
    item();
    while (next() == ',') {
      ++at_;
      item();
    }
    expect(close);
  }
  std::uint64_t number()
  {
    if (next() < '0' || next() > '9') { fail(); }
    std::uint64_t value = 0;
    while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') {
      if (value > (std::uint64_t{1} << 58)) { fail(); }
      value = value * 10 + static_cast<std::uint64_t>(text_[at_++] - '0');
    }
    return value;
  }
  char next()
  {
    skip_spaces();
    if (at_ >= text_.size()) { fail(); }
    return text_[at_];
  }
  void expect(char c)
  {
    if (next() != c) { fail(); }
    ++at_;
  }
  void skip_spaces()
  {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) {
      ++at_;
    }
  }
  [[noreturn]] void fail() const { throw Refused("its header cannot be read"); }

  std::string text_;
  std::size_t at_ = 0;
};

StoredTensor read_tensor(HeaderReader& header, std::string const& bytes, std::uint64_t& expected)
{
  StoredTensor tensor;
  std::string type;
  std::vector<std::uint64_t> shape, offsets;
  header.object([&](std::string const& key) {
    if (key == "dtype") {
      type = header.string();
    } else if (key == "shape") {
      shape = header.numbers();
    } else if (key == "data_offsets") {
      offsets = header.numbers();
    } else {
      throw Refused("its header has an unknown field " + key);
    }
  });
  std::uint64_t elements = 1;
  for (std::uint64_t const n : shape) {
    tensor.shape.push_back(static_cast<moe::index_t>(n));
    if (n != 0 && elements > bytes.size() / n) { throw Refused("a shape is larger than the file"); }
    elements *= n;
  }
  if (type != "F32" || offsets.size() != 2) { throw Refused("a tensor is not of 32-bit floats"); }
  if (offsets[0] != expected || offsets[1] - offsets[0] != elements * sizeof(float) ||
      offsets[1] < offsets[0] || offsets[1] > bytes.size()) {
    throw Refused("it is truncated, or its tensors do not lie side by side");
  }
  expected = offsets[1];
  tensor.values.resize(elements);
  if (elements > 0) {
    std::memcpy(tensor.values.data(), bytes.data() + offsets[0], elements * sizeof(float));
  }
  return tensor;
}

Checkpoint parse(std::string const& file)
{
  std::uint64_t length = 0;
  if (file.size() < sizeof length) { throw Refused("it is too short"); }
  std::memcpy(&length, file.data(), sizeof length);
  if (length > file.size() - sizeof length) {
    throw Refused("it is truncated or no safetensors file");
  }
  HeaderReader header(file.substr(sizeof length, length));
  std::string const bytes = file.substr(sizeof length + length);

  Checkpoint checkpoint;
  std::uint64_t end = 0;
  header.object([&](std::string const& name) {
    if (name == "__metadata__") {
      header.object([&](std::string const& key) { checkpoint.metadata[key] = header.string(); });
    } else {
      checkpoint.tensors[name] = read_tensor(header, bytes, end);
    }
  });
  header.end();
  if (end != bytes.size()) { throw Refused("its tensors do not cover it"); }
  if (checkpoint.metadata["format"] != format) { throw Refused("another program wrote it"); }
  return checkpoint;
}

}  // namespace

StoredTensor const& Checkpoint::tensor(std::string const& name, moe::index_t elements) const
{
  auto const found = tensors.find(name);
  if (found == tensors.end()) { throw Refused("The checkpoint has no " + name + "."); }
  auto const has = found->second.values.size();
  if (has != static_cast<std::size_t>(elements)) {
    throw Refused("The checkpoint's " + name + " has " + std::to_string(has) +
                  " numbers, but the model " + std::to_string(elements) + ".");
  }
  return found->second;
}

moe::index_t Checkpoint::number(std::string const& name) const
{
  auto const found   = metadata.find(name);
  moe::index_t value = -1;
  if (found != metadata.end()) {
    auto const& text = found->second;
    std::from_chars(text.data(), text.data() + text.size(), value);
  }
  if (value < 0) { throw Refused("The checkpoint does not say its " + name + "."); }
  return value;
}

void check_writable(std::string const& path)
{
  std::string const beside = beside_of(path);
  if (std::filesystem::is_directory(path) || !std::ofstream(beside, std::ios::binary)) {
    throw Refused("The checkpoint " + path + " cannot be written.");
  }
  std::filesystem::remove(beside);
}

void save_checkpoint(std::string const& path, Checkpoint const& checkpoint)
{
  std::string const header = header_of(checkpoint);
  std::string const beside = beside_of(path);
  {
    std::ofstream out(beside, std::ios::binary);
    std::uint64_t const length = header.size();
    out.write(reinterpret_cast<char const*>(&length), sizeof length);
    out << header;
    for (auto const& [name, tensor] : checkpoint.tensors) {
      out.write(reinterpret_cast<char const*>(tensor.values.data()),
                static_cast<std::streamsize>(tensor.values.size() * sizeof(float)));
    }
    out.flush();
    if (!out) { throw Refused("The checkpoint " + path + " cannot be written."); }
  }
  std::error_code error;
  std::filesystem::rename(beside, path, error);
  if (error) { throw Refused("The checkpoint " + path + " cannot be written: " + error.message()); }
}

Checkpoint load_checkpoint(std::string const& path)
{
  std::ifstream in(path, std::ios::binary);
  if (!in) { throw Refused("There is no checkpoint " + path + "."); }
  try {
    return parse(std::string(std::istreambuf_iterator<char>(in), {}));
  } catch (Refused const& why) {
    throw Refused("The file " + path + " is no checkpoint of this program: " + why.what() + ".");
  }
}

}  // namespace train_lm
