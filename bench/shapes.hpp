#pragma once
// The shapes of published models. On Host hidden and ffn size are divided and tokens are fewer, so
// that a desktop's two cores have them done in well under a second; experts and choices are theirs.
#include <type_traits>

#include <moe/core/view.hpp>

namespace moe_bench {

struct Shape {
  char const* name;
  moe::index_t hidden, ffn, experts;  // D, F, E
  int top_k;                          // K
  moe::index_t scale, tokens;         // what D and F are divided by; T
  moe::index_t full_tokens = 0;       // T of the whole shape
  // Above 0: the n-th most popular expert is chosen as 1 / n^zipf, where the routing is given.
  float zipf = 0;

  [[nodiscard]] constexpr Shape scaled() const
  {
    return {name, hidden / scale, ffn / scale, experts, top_k, 1, tokens, 0, zipf};
  }
  [[nodiscard]] constexpr Shape full() const
  {
    return {name, hidden, ffn, experts, top_k, 1, full_tokens, 0, zipf};
  }
  [[nodiscard]] constexpr Shape of_tokens(moe::index_t few) const
  {
    return {name, hidden, ffn, experts, top_k, 1, few, 0, zipf};
  }
};

inline constexpr Shape mixtral{"mixtral", 4096, 14336, 8, 2, 8, 512, 8192};
inline constexpr Shape dbrx{"dbrx", 6144, 10752, 16, 4, 16, 128, 8192};
inline constexpr Shape olmoe{"olmoe", 2048, 1024, 64, 8, 8, 256, 32768};
inline constexpr Shape qwen3{"qwen3", 2048, 768, 128, 8, 8, 256, 32768};
inline constexpr Shape dsv3{"dsv3", 7168, 2048, 256, 8, 32, 256, 8192};
inline constexpr Shape sonic7b{"sonic7b", 1536, 256, 128, 8, 8, 512, 24576};

// What none of those is like: no power of two (GPT-OSS), one large expert for each token (Llama 4),
// more experts than rows keep busy, and loads that differ a hundredfold.
inline constexpr Shape gpt_oss{"gpt_oss", 2880, 2880, 32, 4, 10, 256, 16384};
inline constexpr Shape llama4{"llama4", 5120, 8192, 16, 1, 16, 256, 16384};
inline constexpr Shape experts384{"experts384", 7168, 2048, 384, 8, 32, 64, 1024};
inline constexpr Shape qwen3_zipf{"qwen3_zipf", 2048, 768, 128, 8, 8, 256, 32768, 1};

// Of an answer that is written token by token, for one to many users.
inline constexpr moe::index_t few_tokens[] = {1, 8, 64, 512};

// add(K, shape) for each of the named ones, or the odd ones; K is a constant in its type.
template <class Add>
void for_each_named_shape(Add const& add)
{
  add(std::integral_constant<int, 2>{}, mixtral);
  add(std::integral_constant<int, 4>{}, dbrx);
  add(std::integral_constant<int, 8>{}, olmoe);
  add(std::integral_constant<int, 8>{}, qwen3);
  add(std::integral_constant<int, 8>{}, dsv3);
  add(std::integral_constant<int, 8>{}, sonic7b);
}
template <class Add>
void for_each_odd_shape(Add const& add)
{
  add(std::integral_constant<int, 4>{}, gpt_oss);
  add(std::integral_constant<int, 1>{}, llama4);
  add(std::integral_constant<int, 8>{}, experts384);
  add(std::integral_constant<int, 8>{}, qwen3_zipf);
}

}  // namespace moe_bench
