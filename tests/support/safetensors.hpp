#pragma once
// Reads safetensors files: 8 bytes of header length, a JSON header, the tensors' bytes. The whole
// file is checked before any tensor is handed out, and refused where it is not exactly covered.
#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <moe/core/element.hpp>
#include <moe/core/view.hpp>

#include "support/json.hpp"

namespace moe::test {

struct TruncatedFileError : FileError {  // header or data run past the end of the file
  using FileError::FileError;
};
struct HeaderTooLargeError : FileError {
  using FileError::FileError;
};
struct OverlapError : FileError {  // two tensors share bytes
  using FileError::FileError;
};
struct HoleError : FileError {  // bytes that belong to no tensor
  using FileError::FileError;
};
struct OffsetError : FileError {  // an offset or a size in bytes leaves 64 bits, or end < begin
  using FileError::FileError;
};
struct TensorSizeError : FileError {  // offsets do not fit shape and dtype
  using FileError::FileError;
};
struct DtypeError : FileError {
  using FileError::FileError;
};
struct NoTensorError : FileError {
  using FileError::FileError;
};

class Safetensors {
 public:
  static_assert(std::endian::native == std::endian::little);
  static constexpr std::uint64_t max_header = 100'000'000;

  [[nodiscard]] static Safetensors read(std::filesystem::path const& path)
  {
    std::ifstream in(path, std::ios::binary);
    if (!in) { throw FileError("safetensors: cannot open " + path.string()); }
    return parse(std::string(std::istreambuf_iterator<char>(in), {}));
  }
  [[nodiscard]] static Safetensors parse(std::string bytes)
  {
    Safetensors file;
    file.bytes_ = std::move(bytes);
    file.check();
    return file;
  }

  [[nodiscard]] std::map<std::string, std::string> const& metadata() const { return metadata_; }
  [[nodiscard]] bool has(std::string const& name) const { return entries_.count(name) != 0; }
  [[nodiscard]] std::vector<std::string> names() const
  {
    std::vector<std::string> result;
    for (auto const& [name, entry] : entries_) {
      result.push_back(name);
    }
    return result;
  }
  [[nodiscard]] std::vector<index_t> const& shape(std::string const& name) const
  {
    return entry(name).shape;
  }
  [[nodiscard]] std::string const& dtype(std::string const& name) const
  {
    return entry(name).dtype;
  }

  // The elements in row-major order, converted to T; the file's may be F64, F32, F16, BF16, I64 or
  // I32.
  template <class T>
  [[nodiscard]] std::vector<T> values(std::string const& name) const
  {
    Entry const& e = entry(name);
    if (e.dtype == "F32") { return convert<T, float>(e); }
    if (e.dtype == "F64") { return convert<T, double>(e); }
    if (e.dtype == "F16") { return convert<T, Half>(e); }
    if (e.dtype == "BF16") { return convert<T, BFloat16>(e); }
    if (e.dtype == "I64") { return convert<T, std::int64_t>(e); }
    if (e.dtype == "I32") { return convert<T, std::int32_t>(e); }
    throw DtypeError("safetensors: '" + name + "' is " + e.dtype + ", which is not converted");
  }

 private:
  struct Entry {
    std::string dtype;
    std::vector<index_t> shape;
    std::uint64_t begin = 0, end = 0;  // of the data, in bytes
  };

  [[nodiscard]] Entry const& entry(std::string const& name) const
  {
    auto const found = entries_.find(name);
    if (found == entries_.end()) { throw NoTensorError("safetensors: no tensor '" + name + "'"); }
    return found->second;
  }

  template <class T, class From>
  [[nodiscard]] std::vector<T> convert(Entry const& e) const
  {
    std::vector<T> result((e.end - e.begin) / sizeof(From));
    char const* at = bytes_.data() + data_ + e.begin;
    for (auto& to : result) {
      From from;
      std::memcpy(&from, at, sizeof(From));
      at += sizeof(From);
      to = static_cast<T>(from);
    }
    return result;
  }

  void check()
  {
    if (bytes_.size() < 8) {
      throw TruncatedFileError("safetensors: the file has " + std::to_string(bytes_.size()) +
                               " bytes, must have at least 8");
    }
    std::uint64_t header = 0;
    std::memcpy(&header, bytes_.data(), 8);
    if (header > max_header) {
      throw HeaderTooLargeError("safetensors: the header has " + std::to_string(header) +
                                " bytes, must be at most " + std::to_string(max_header));
    }
    if (header > bytes_.size() - 8) {
      throw TruncatedFileError("safetensors: the header has " + std::to_string(header) +
                               " bytes, the file only " + std::to_string(bytes_.size() - 8) +
                               " after its length");
    }
    data_           = 8 + static_cast<std::size_t>(header);
    Json const json = Json::parse(std::string_view(bytes_).substr(8, data_ - 8));
    json.expect(Json::Kind::object, "an object");
    for (std::size_t i = 0; i < json.keys.size(); ++i) {
      if (json.keys[i] == "__metadata__") {
        json.items[i].expect(Json::Kind::object, "an object under __metadata__");
        for (std::size_t j = 0; j < json.items[i].keys.size(); ++j) {
          metadata_[json.items[i].keys[j]] = json.items[i].items[j].string();
        }
      } else {
        entries_[json.keys[i]] = checked_entry(json.keys[i], json.items[i]);
      }
    }
    check_cover();
  }

  static Entry checked_entry(std::string const& name, Json const& json)
  {
    json.expect(Json::Kind::object, "an object per tensor");
    Entry e{json.at("dtype").string(), {}, 0, 0};
    std::uint64_t bytes = dtype_bytes(name, e.dtype);
    Json const& shape   = json.at("shape");
    shape.expect(Json::Kind::array, "an array of extents");
    for (auto const& item : shape.items) {
      std::uint64_t const extent = item.whole();
      if (extent > INT64_MAX || __builtin_mul_overflow(bytes, extent, &bytes)) {
        throw OffsetError("safetensors: the size of '" + name + "' leaves 64 bits");
      }
      e.shape.push_back(static_cast<index_t>(extent));
    }
    Json const& offsets = json.at("data_offsets");
    offsets.expect(Json::Kind::array, "an array of offsets");
    if (offsets.items.size() != 2) { throw JsonError("json: data_offsets must be two numbers"); }
    e.begin = offset(name, offsets.items[0]);
    e.end   = offset(name, offsets.items[1]);
    if (e.end < e.begin) { throw OffsetError("safetensors: '" + name + "' ends before it begins"); }
    if (e.end - e.begin != bytes) {
      throw TensorSizeError("safetensors: '" + name + "' takes " + std::to_string(e.end - e.begin) +
                            " bytes, must be " + std::to_string(bytes) +
                            " by its shape and dtype " + e.dtype);
    }
    return e;
  }

  static std::uint64_t offset(std::string const& name, Json const& json)
  {
    try {
      return json.whole();
    } catch (NumberOverflowError const&) {
      throw OffsetError("safetensors: an offset of '" + name + "' leaves 64 bits");
    }
  }

  static std::uint64_t dtype_bytes(std::string const& name, std::string const& dtype)
  {
    static std::map<std::string, std::uint64_t> const sizes{{"BOOL", 1},
                                                            {"U8", 1},
                                                            {"I8", 1},
                                                            {"I16", 2},
                                                            {"U16", 2},
                                                            {"F16", 2},
                                                            {"BF16", 2},
                                                            {"I32", 4},
                                                            {"U32", 4},
                                                            {"F32", 4},
                                                            {"I64", 8},
                                                            {"U64", 8},
                                                            {"F64", 8},
                                                            {"F8_E4M3", 1},
                                                            {"F8_E5M2", 1}};
    auto const found = sizes.find(dtype);
    if (found == sizes.end()) {
      throw DtypeError("safetensors: the dtype of '" + name + "' is '" + dtype +
                       "', which is not known");
    }
    return found->second;
  }

  // Tensors, in order of their offsets, cover the data without a gap, once.
  void check_cover() const
  {
    std::vector<std::pair<std::pair<std::uint64_t, std::uint64_t>, std::string>> parts;
    for (auto const& [name, e] : entries_) {
      parts.push_back({{e.begin, e.end}, name});
    }
    std::sort(parts.begin(), parts.end());
    std::uint64_t covered    = 0;
    std::uint64_t const size = bytes_.size() - data_;
    for (auto const& [range, name] : parts) {
      if (range.first < covered) {
        throw OverlapError("safetensors: '" + name + "' begins at byte " +
                           std::to_string(range.first) + ", inside the tensor before it");
      }
      if (range.first > covered) {
        throw HoleError("safetensors: no tensor covers the bytes from " + std::to_string(covered) +
                        " to " + std::to_string(range.first));
      }
      covered = range.second;
      if (covered > size) {
        throw TruncatedFileError("safetensors: '" + name + "' ends at byte " +
                                 std::to_string(covered) + ", the data has " +
                                 std::to_string(size));
      }
    }
    if (covered < size) {
      throw HoleError("safetensors: no tensor covers the bytes from " + std::to_string(covered) +
                      " to " + std::to_string(size));
    }
  }

  std::string bytes_;
  std::size_t data_ = 0;  // where the tensors' bytes begin
  std::map<std::string, std::string> metadata_;
  std::map<std::string, Entry> entries_;
};

// tests/data, which the build names.
[[nodiscard]] inline std::filesystem::path data_dir()
{
#if defined(MOE_TEST_DATA)
  return MOE_TEST_DATA;
#else
  return std::filesystem::path(__FILE__).parent_path().parent_path() / "data";
#endif
}

// One recorded block of tests/data/golden: golden("mixtral").
[[nodiscard]] inline Safetensors golden(std::string const& name)
{
  return Safetensors::read(data_dir() / "golden" / (name + ".safetensors"));
}

}  // namespace moe::test
