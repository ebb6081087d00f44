#pragma once
// The JSON that a safetensors header and the configurations in it need: a strict parser into a
// tree.
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace moe::test {

struct FileError : std::runtime_error {  // a file that is refused; what() is a sentence
  using std::runtime_error::runtime_error;
};
struct JsonError : FileError {
  using FileError::FileError;
};
struct DuplicateKeyError : FileError {
  using FileError::FileError;
};
struct NumberOverflowError : FileError {
  using FileError::FileError;
};

struct Json {
  enum class Kind { null, boolean, number, string, array, object };

  Kind kind = Kind::null;
  std::string text;               // a string's characters; a number or boolean as written
  std::vector<std::string> keys;  // of an object, in file order; items holds their values
  std::vector<Json> items;

  [[nodiscard]] Json const* find(std::string_view key) const
  {
    for (std::size_t i = 0; i < keys.size(); ++i) {
      if (keys[i] == key) { return &items[i]; }
    }
    return nullptr;
  }
  [[nodiscard]] Json const& at(std::string_view key) const
  {
    Json const* const found = find(key);
    if (found == nullptr) { throw JsonError("json: no member '" + std::string(key) + "'"); }
    return *found;
  }
  [[nodiscard]] std::string const& string() const { return expect(Kind::string, "a string"), text; }
  [[nodiscard]] bool boolean() const { return expect(Kind::boolean, "a boolean"), text == "true"; }
  [[nodiscard]] double number() const { return expect(Kind::number, "a number"), std::stod(text); }
  [[nodiscard]] std::uint64_t whole() const
  {
    expect(Kind::number, "a number");
    std::uint64_t value      = 0;
    auto const [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (status == std::errc::result_out_of_range) {
      throw NumberOverflowError("json: " + text + " is a number beyond 64 bits");
    }
    if (status != std::errc{} || end != text.data() + text.size()) {
      throw JsonError("json: " + text + " is not a whole number of at least 0");
    }
    return value;
  }
  void expect(Kind k, char const* name) const
  {
    if (kind != k) { throw JsonError(std::string("json: expected ") + name); }
  }

  static Json parse(std::string_view text);
};

namespace detail {

class JsonParser {
 public:
  explicit JsonParser(std::string_view text) : text_{text} {}

  Json document()
  {
    Json result = value(0);
    space();
    if (at_ != text_.size()) { fail("something follows the end"); }
    return result;
  }

 private:
  [[noreturn]] void fail(std::string const& why) const
  {
    throw JsonError("json: " + why + " at byte " + std::to_string(at_));
  }
  void space()
  {
    while (at_ < text_.size() && std::string_view(" \t\r\n").find(text_[at_]) != text_.npos) {
      ++at_;
    }
  }
  bool take(char c)
  {
    if (at_ >= text_.size() || text_[at_] != c) { return false; }
    ++at_;
    return true;
  }
  void need(char c)
  {
    if (!take(c)) { fail(std::string("expected '") + c + "'"); }
  }
  bool word(std::string_view w)
  {
    if (text_.substr(at_, w.size()) != w) { return false; }
    at_ += w.size();
    return true;
  }

  Json value(int depth)
  {
    if (depth > 32) { fail("nested too deeply"); }
    space();
    if (at_ >= text_.size()) { fail("the text ends early"); }
    char const c = text_[at_];
    if (c == '{') { return object(depth); }
    if (c == '[') { return array(depth); }
    if (c == '"') {
      return {.kind = Json::Kind::string, .text = string(), .keys = {}, .items = {}};
    }
    if (word("null")) { return {}; }
    for (auto const* b : {"true", "false"}) {
      if (word(b)) { return {.kind = Json::Kind::boolean, .text = b, .keys = {}, .items = {}}; }
    }
    return {.kind = Json::Kind::number, .text = number(), .keys = {}, .items = {}};
  }

  Json object(int depth)
  {
    Json result;
    result.kind = Json::Kind::object;
    std::set<std::string> seen;
    need('{');
    space();
    if (take('}')) { return result; }
    do {
      space();
      std::string key = string();
      if (!seen.insert(key).second) {
        throw DuplicateKeyError("json: the key '" + key + "' is there twice");
      }
      result.keys.push_back(std::move(key));
      space();
      need(':');
      result.items.push_back(value(depth + 1));
      space();
    } while (take(','));
    need('}');
    return result;
  }

  Json array(int depth)
  {
    Json result;
    result.kind = Json::Kind::array;
    need('[');
    space();
    if (take(']')) { return result; }
    do {
      result.items.push_back(value(depth + 1));
      space();
    } while (take(','));
    need(']');
    return result;
  }

  void digits()
  {
    std::size_t const from = at_;
    while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') {
      ++at_;
    }
    if (at_ == from) { fail("expected a value"); }
  }
  std::string number()
  {
    std::size_t const from = at_;
    take('-');
    if (!take('0')) { digits(); }
    if (take('.')) { digits(); }
    if (take('e') || take('E')) {
      if (!take('+')) { take('-'); }
      digits();
    }
    return std::string(text_.substr(from, at_ - from));
  }

  std::string string()
  {
    need('"');
    std::string result;
    while (!take('"')) {
      if (at_ >= text_.size()) { fail("a string does not end"); }
      char const c = text_[at_++];
      if (static_cast<unsigned char>(c) < 0x20) { fail("a control character in a string"); }
      if (c == '\\') {
        escape(result);
      } else {
        result += c;
      }
    }
    return result;
  }
  void escape(std::string& out)
  {
    constexpr std::string_view names = "\"\\/bfnrt", meant = "\"\\/\b\f\n\r\t";
    if (take('u')) {
      std::uint32_t point = code_unit();
      if (point >= 0xd800 && point < 0xdc00) {
        need('\\');
        need('u');
        std::uint32_t const low = code_unit();
        if (low < 0xdc00 || low > 0xdfff) { fail("half a surrogate pair"); }
        point = 0x10000 + ((point - 0xd800) << 10) + (low - 0xdc00);
      } else if (point >= 0xdc00 && point < 0xe000) {
        fail("half a surrogate pair");
      }
      append_utf8(out, point);
      return;
    }
    std::size_t const i = at_ < text_.size() ? names.find(text_[at_]) : names.npos;
    if (i == names.npos) { fail("an unknown escape"); }
    ++at_;
    out += meant[i];
  }
  std::uint32_t code_unit()
  {
    std::string_view const hex = text_.substr(at_, 4);
    std::uint32_t value        = 0;
    auto const [end, status]   = std::from_chars(hex.data(), hex.data() + hex.size(), value, 16);
    if (hex.size() != 4 || status != std::errc{} || end != hex.data() + 4) {
      fail("expected four hexadecimal digits");
    }
    at_ += 4;
    return value;
  }
  static void append_utf8(std::string& out, std::uint32_t point)
  {
    auto const byte = [&](std::uint32_t b) { out += static_cast<char>(b); };
    auto const rest = [&](int shift) { byte(0x80 | ((point >> shift) & 0x3f)); };
    if (point < 0x80) {
      byte(point);
    } else if (point < 0x800) {
      byte(0xc0 | (point >> 6)), rest(0);
    } else if (point < 0x10000) {
      byte(0xe0 | (point >> 12)), rest(6), rest(0);
    } else {
      byte(0xf0 | (point >> 18)), rest(12), rest(6), rest(0);
    }
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace detail

inline Json Json::parse(std::string_view text)
{
  return detail::JsonParser(text).document();
}

}  // namespace moe::test
