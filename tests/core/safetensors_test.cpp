#include "support/safetensors.hpp"

#include <doctest/doctest.h>

#include <bit>
#include <numeric>
#include <random>

using namespace moe::test;

namespace {

std::string const brace = "{";  // "{" + std::string&& draws a mistaken -Wrestrict from g++ 12

std::string file_of(std::string const& header, std::string const& data)
{
  auto const length = static_cast<std::uint64_t>(header.size());
  return std::string(reinterpret_cast<char const*>(&length), 8) + header + data;
}

std::string tensor(std::string const& name,
                   std::string const& dtype,
                   std::string const& shape,
                   std::string const& offsets)
{
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape +
         ",\"data_offsets\":" + offsets + "}";
}

template <class T>
std::string bytes_of(std::vector<T> const& values)
{
  return std::string(reinterpret_cast<char const*>(values.data()), values.size() * sizeof(T));
}

Safetensors parse(std::string const& header, std::size_t data_bytes)
{
  return Safetensors::parse(file_of(header, std::string(data_bytes, '\0')));
}

}  // namespace

TEST_CASE("safetensors: a small file is read, padding and escapes included")
{
  auto const data = bytes_of<float>({1, -2, 3.5f}) + bytes_of<double>({0.1}) +
                    bytes_of<moe::BFloat16>({moe::BFloat16(7)}) +
                    bytes_of<moe::Half>({moe::Half(0.5f)}) + bytes_of<std::int64_t>({-9});
  auto const file = Safetensors::parse(file_of(
      "{\"__metadata__\":{\"k\":\"a\\n\\u00e9\\ud83d\\ude00\\\"\"}," +
          tensor("i", "I64", "[1]", "[24,32]") + ", " + tensor("a", "F32", "[1,3]", "[0,12]") +
          "," + tensor("none", "F32", "[0,4]", "[12,12]") + "," +
          tensor("b", "F64", "[]", "[12,20]") + "," + tensor("c", "BF16", "[1]", "[20,22]") + "," +
          tensor("d", "F16", "[1]", "[22,24]") + "}   ",
      data));
  CHECK(file.metadata().at("k") == "a\n\xc3\xa9\xf0\x9f\x98\x80\"");
  CHECK(file.names() == std::vector<std::string>{"a", "b", "c", "d", "i", "none"});
  CHECK(file.shape("a") == std::vector<moe::index_t>{1, 3});
  CHECK(file.shape("b").empty());
  CHECK(file.dtype("c") == "BF16");
  CHECK(file.values<float>("a") == std::vector<float>{1, -2, 3.5f});
  CHECK(file.values<double>("a") == std::vector<double>{1, -2, 3.5});
  CHECK(file.values<double>("b") == std::vector<double>{0.1});
  CHECK(file.values<float>("c") == std::vector<float>{7});
  CHECK(file.values<float>("d") == std::vector<float>{0.5f});
  CHECK(file.values<double>("i") == std::vector<double>{-9});
  CHECK(file.values<float>("none").empty());
  CHECK(!file.has("e"));
  CHECK_THROWS_AS((void)file.shape("e"), NoTensorError);
  CHECK(parse("{}", 0).names().empty());
}

TEST_CASE("safetensors: lengths past the file are refused")
{
  for (std::size_t bytes = 0; bytes < 8; ++bytes) {
    CHECK_THROWS_AS((void)Safetensors::parse(std::string(bytes, '\0')), TruncatedFileError);
  }
  auto const good = file_of(brace + tensor("a", "F32", "[2]", "[0,8]") + "}", std::string(8, '\0'));
  CHECK_NOTHROW((void)Safetensors::parse(good));
  for (std::size_t cut = 0; cut < good.size(); ++cut) {
    CHECK_THROWS_AS((void)Safetensors::parse(good.substr(0, cut)), TruncatedFileError);
  }
  std::uint64_t const limit = Safetensors::max_header;
  for (std::uint64_t length : {limit + 1, std::uint64_t{1} << 63, ~std::uint64_t{0}}) {
    auto file = good;
    std::memcpy(file.data(), &length, 8);
    CHECK_THROWS_AS((void)Safetensors::parse(file), HeaderTooLargeError);
  }
  auto file = good;
  std::memcpy(file.data(), &limit, 8);
  CHECK_THROWS_AS((void)Safetensors::parse(file), TruncatedFileError);
  CHECK_THROWS_AS((void)Safetensors::read(data_dir() / "no such file"), FileError);
}

TEST_CASE("safetensors: data that is not covered exactly once is refused")
{
  auto const two = [](char const* a, char const* b, std::size_t bytes) {
    return parse(brace + tensor("a", "F32", "[2]", a) + "," + tensor("b", "F32", "[2]", b) + "}",
                 bytes);
  };
  CHECK_NOTHROW(two("[8,16]", "[0,8]", 16));
  CHECK_THROWS_AS(two("[0,8]", "[4,12]", 16), OverlapError);
  CHECK_THROWS_AS(two("[0,8]", "[0,8]", 8), OverlapError);
  CHECK_THROWS_AS(two("[0,8]", "[12,20]", 20), HoleError);
  CHECK_THROWS_AS(two("[4,12]", "[12,20]", 20), HoleError);
  CHECK_THROWS_AS(two("[0,8]", "[8,16]", 17), HoleError);
  CHECK_THROWS_AS(parse("{}", 1), HoleError);
  CHECK_THROWS_AS(two("[0,8]", "[8,16]", 15), TruncatedFileError);
}

TEST_CASE("safetensors: offsets, sizes and dtypes that do not fit are refused")
{
  auto const one = [](char const* dtype, char const* shape, char const* offsets) {
    return parse(brace + tensor("a", dtype, shape, offsets) + "}", 8);
  };
  CHECK_NOTHROW(one("F32", "[2]", "[0,8]"));
  CHECK_THROWS_AS(one("F64", "[2]", "[0,8]"), TensorSizeError);
  CHECK_THROWS_AS(one("BF16", "[2]", "[0,8]"), TensorSizeError);
  CHECK_THROWS_AS(one("F32", "[3]", "[0,8]"), TensorSizeError);
  CHECK_THROWS_AS(one("F32", "[0]", "[0,8]"), TensorSizeError);
  CHECK_THROWS_AS(one("F32", "[2]", "[8,0]"), OffsetError);
  CHECK_THROWS_AS(one("F32", "[2]", "[0,18446744073709551624]"), OffsetError);
  CHECK_THROWS_AS(one("F32", "[4611686018427387906]", "[0,8]"), OffsetError);  // 2^64 + 8 bytes
  CHECK_THROWS_AS(one("F32", "[4294967296,4294967296]", "[0,0]"), OffsetError);
  CHECK_THROWS_AS(one("U8", "[9223372036854775808]", "[0,8]"), OffsetError);
  CHECK_THROWS_AS(one("F32", "[18446744073709551618]", "[0,8]"), NumberOverflowError);
  CHECK_THROWS_AS(one("F31", "[2]", "[0,8]"), DtypeError);
  CHECK_THROWS_AS((void)one("U32", "[2]", "[0,8]").values<float>("a"), DtypeError);
  CHECK_THROWS_AS(one("F32", "[-2]", "[0,8]"), JsonError);
  CHECK_THROWS_AS(one("F32", "[2.0]", "[0,8]"), JsonError);
  CHECK_THROWS_AS(one("F32", "2", "[0,8]"), JsonError);
  CHECK_THROWS_AS(one("F32", "[2]", "[0,8,8]"), JsonError);
}

TEST_CASE("safetensors: a duplicate key is refused wherever it is")
{
  auto const a = tensor("a", "F32", "[]", "[0,4]");
  CHECK_THROWS_AS(parse(brace + a + "," + a + "}", 4), DuplicateKeyError);
  CHECK_THROWS_AS(parse(brace + a + "," + tensor("\\u0061", "F32", "[]", "[4,8]") + "}", 8),
                  DuplicateKeyError);
  CHECK_THROWS_AS(parse("{\"__metadata__\":{\"k\":\"1\",\"k\":\"2\"}}", 0), DuplicateKeyError);
  CHECK_THROWS_AS(parse("{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\"}}", 0), DuplicateKeyError);
}

TEST_CASE("safetensors: bad JSON is refused")
{
  for (std::string const header : {"",
                                   "   ",
                                   "[]",
                                   "null",
                                   "{",
                                   "{}x",
                                   "{\"a\"}",
                                   "{\"a\":}",
                                   "{\"a\":1}",
                                   "{\"a\":{}}",
                                   "{\"a\":{},}",
                                   "{a:{}}",
                                   "{\"a:{}}",
                                   "{\"\t\":{}}",
                                   "{\"\\x\":{}}",
                                   "{\"\\",
                                   "{\"\\u12g4\":{}}",
                                   "{\"\\ud800\":{}}",
                                   "{\"\\ud800\\u0041\":{}}",
                                   "{\"\\udc00\":{}}",
                                   "{\"__metadata__\":1}",
                                   "{\"__metadata__\":{\"k\":1}}",
                                   "{\"a\":{\"dtype\":4,\"shape\":[],\"data_offsets\":[0,4]}}",
                                   "{\"a\":{\"dtype\":\"F32\",\"shape\":[01],"
                                   "\"data_offsets\":[0,4]}}",
                                   "{\"a\":{\"dtype\":\"F32\",\"shape\":[]}}"}) {
    CAPTURE(header);
    CHECK_THROWS_AS(parse(header, 0), JsonError);
  }
  CHECK_THROWS_AS(parse("{\"a\":" + std::string(100'000, '['), 0), JsonError);
}

TEST_CASE("safetensors: what() is a sentence with the tensor and the numbers")
{
  std::string what;
  try {
    parse(brace + tensor("w", "F32", "[2,2]", "[0,12]") + "}", 12);
  } catch (TensorSizeError const& e) {
    what = e.what();
  }
  CHECK(what == "safetensors: 'w' takes 12 bytes, must be 16 by its shape and dtype F32");
}

TEST_CASE("safetensors: a changed byte is read or refused, never more")
{
  auto const header = "{\"__metadata__\":{\"k\":\"v\"}," + tensor("a", "F32", "[2,1]", "[0,8]") +
                      "," + tensor("b", "BF16", "[2]", "[8,12]") + "}";
  auto const good = file_of(header, std::string(12, '\x11'));
  std::mt19937 random(1);
  int refused = 0, read = 0;
  for (int i = 0; i < 20'000; ++i) {
    auto file = good;
    for (int changes = 1 + i % 3; changes > 0; --changes) {
      std::size_t const at = random() % (8 + header.size());
      file[at] = i % 2 == 0 ? static_cast<char>(random()) : good[random() % good.size()];
    }
    try {
      auto const parsed = Safetensors::parse(file);
      for (auto const& name : parsed.names()) {
        std::vector<double> values;
        try {
          values = parsed.values<double>(name);
        } catch (DtypeError const&) {
          continue;
        }
        moe::index_t n = 1;
        for (auto extent : parsed.shape(name)) {
          n *= extent;
        }
        REQUIRE(static_cast<moe::index_t>(values.size()) == n);
      }
      ++read;
    } catch (FileError const&) {
      ++refused;
    }
  }
  CHECK(refused > 10'000);
  CHECK(read > 0);
}

// First and last element and the sum, as an independent reader found them.
TEST_CASE("safetensors: the recorded blocks are read as another reader reads them")
{
  struct Expected {
    char const* file;
    char const* tensor;
    std::vector<moe::index_t> shape;
    double first, last, sum;
  };
  for (auto const& e : {
           Expected{"mixtral",
                    "experts.gate_up_proj",
                    {8, 24, 16},
                    0.4059807360172272,
                    -0.1851726621389389,
                    17.619756356969447},
           Expected{"mixtral",
                    "grad.x",
                    {37, 16},
                    -3.8843066692352295,
                    0.11193937808275223,
                    -14.985536070540547},
           Expected{
               "olmoe", "y", {37, 16}, 0.6416757702827454, -2.355757236480713, -11.675895147025585},
           Expected{"qwen2_moe",
                    "shared_expert_gate.weight",
                    {1, 16},
                    0.4772067070007324,
                    -0.09909957647323608,
                    2.720467232167721},
           Expected{"gpt_oss",
                    "grad.experts.gate_up_proj_bias",
                    {8, 24},
                    -3.8536226749420166,
                    -2.881204605102539,
                    27.042541642673314},
           Expected{"minimind_v2_batch",
                    "x",
                    {3, 13, 16},
                    0.7708739042282104,
                    -0.2610877752304077,
                    18.069064344279468},
           Expected{"minimind_v2_batch",
                    "aux_loss",
                    {1},
                    3.579867124557495,
                    3.579867124557495,
                    3.579867124557495},
           Expected{"tutel_top2_cf1", "dispatch_count", {8}, 8, 10, 74},
       }) {
    CAPTURE(e.file);
    CAPTURE(e.tensor);
    auto const file   = golden(e.file);
    auto const values = file.values<double>(e.tensor);
    CHECK(file.shape(e.tensor) == e.shape);
    CHECK(values.front() == e.first);
    CHECK(values.back() == e.last);
    CHECK(std::accumulate(values.begin(), values.end(), 0.0) == doctest::Approx(e.sum));
    CHECK(static_cast<double>(file.values<float>(e.tensor).back()) == e.last);
  }
}

TEST_CASE("safetensors: the recorded blocks have gradients of what they have")
{
  struct Expected {
    char const* file;
    std::size_t tensors;
  };
  for (auto const& e : {Expected{"mixtral", 10},
                        Expected{"olmoe", 10},
                        Expected{"qwen2_moe", 18},
                        Expected{"gpt_oss", 16},
                        Expected{"minimind_v2_batch", 17},
                        Expected{"tutel_top2_cf1", 16}}) {
    CAPTURE(e.file);
    auto const file = golden(e.file);
    CHECK(file.names().size() == e.tensors);
    for (auto const& name : file.names()) {
      CAPTURE(name);
      CHECK(file.dtype(name) == "F32");
      if (name.starts_with("grad.")) { CHECK(file.shape(name) == file.shape(name.substr(5))); }
    }
    CHECK(file.shape("x") == file.shape("y"));
    CHECK(file.shape("x") == file.shape("dy"));
    CHECK(file.has("grad.x"));
  }
  auto const config = Json::parse(golden("olmoe").metadata().at("config"));
  CHECK(config.at("num_experts_per_tok").whole() == 3);
  CHECK(config.at("norm_topk_prob").boolean() == false);
  auto const gate = Json::parse(golden("tutel_top2_cf1").metadata().at("gate"));
  CHECK(gate.at("capacity_factor").number() == 1.0);
  CHECK(gate.at("type").string() == "top");
}
