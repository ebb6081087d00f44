#pragma once
// What the model holds: its parameters (or their gradients) in one allocation, and what a batch
// leaves behind on its way.
#include <vector>

#include <moe/core/params.hpp>

#include "attention.hpp"
#include "embedding.hpp"

namespace train_lm {

struct ModelSizes {
  index_t hidden = 0;  // D
  index_t layers = 0;
  index_t moe    = 0;  // elements of one block's experts, gate and shared expert, at one rank
};

// Views of all parameters, or of all gradients.
template <class T, class ExecT>
struct ModelParams {
  struct Block {
    View<T, 1, ExecT> attention_norm;  // (D)
    View<T, 2, ExecT> qkv;             // (3 D, D)
    View<T, 2, ExecT> out;             // (D, D)
    View<T, 1, ExecT> moe_norm;        // (D)
    View<T, 1, ExecT> moe;             // laid out by the MoeBlock
  };
  View<T, 2, ExecT> embedding;  // (V, D)
  std::vector<Block> blocks;
  View<T, 1, ExecT> norm;  // (D)

  static ModelParams carve(moe::Carver<T, ExecT>& carver, ModelSizes const& s)
  {
    ModelParams p;
    index_t const D = s.hidden;
    p.embedding     = carver.take(vocabulary, D);
    for (index_t l = 0; l < s.layers; ++l) {
      p.blocks.push_back(Block{.attention_norm = carver.take(D),
                               .qkv            = carver.take(3 * D, D),
                               .out            = carver.take(D, D),
                               .moe_norm       = carver.take(D),
                               .moe            = carver.take(s.moe)});
    }
    p.norm = carver.take(D);
    return p;
  }
  // All but what the MoE blocks initialise themselves.
  template <class Visit>
  void for_each(Visit visit) const
  {
    index_t const D = norm.extent(0);
    visit("embedding", embedding, moe::Init::normal(D));
    for (auto const& b : blocks) {
      visit("attention norm", b.attention_norm, moe::Init::zeros());
      visit("qkv", b.qkv, moe::Init::normal(D));
      visit("out", b.out, moe::Init::normal(D));
      visit("moe norm", b.moe_norm, moe::Init::zeros());
    }
    visit("norm", norm, moe::Init::zeros());
  }
};

// Rows of the i-th of n equal parts of the tokens.
template <class T, int Rank, class ExecT>
[[nodiscard]] View<T, Rank, ExecT> part(View<T, Rank, ExecT> const& of,
                                        std::size_t i,
                                        std::size_t n)
{
  auto const rows  = of.extent(0) / static_cast<index_t>(n);
  auto const first = rows * static_cast<index_t>(i);
  if constexpr (Rank == 1) {
    return View<T, 1, ExecT>(of.data_handle() + first, rows);
  } else {
    index_t const columns = of.extent(1);
    return View<T, 2, ExecT>(of.data_handle() + first * columns, rows, columns);
  }
}

// What forward leaves for backward, and their scratch, for one shape of batch.
template <class ExecT>
struct Activations {
  template <int Rank>
  using Floats = Tensor<float, Rank, ExecT>;
  struct Block {
    Floats<2> x, attention_in;    // (T, D)
    Floats<1> attention_scale;    // (T) of the norm
    Floats<2> qkv;                // (T, 3 D), turned
    Floats<2> keys_t, values_t;   // (B H Dh, C)
    Floats<2> prob;               // (B H C, C)
    Floats<2> attention, middle;  // (T, D)
    Floats<2> moe_in;             // (T, D)
    Floats<1> moe_scale;          // (T)
  };
  AttentionShape shape;
  std::vector<Block> blocks;
  Floats<2> x, final_in;       // (T, D)
  Floats<1> final_scale;       // (T)
  Floats<2> logits;            // (T, V), then their gradient
  Floats<1> loss;              // (T)
  Floats<2> row_a, row_b, dx;  // (T, D) scratch
  Floats<2> d_qkv;             // (T, 3 D)
  Floats<2> d_score;           // (B H C, C)

  Activations() = default;
  Activations(ExecT const& exec, AttentionShape const& s, index_t layers) : shape{s}
  {
    index_t const T = s.tokens(), D = s.hidden();
    auto const rows    = [&](index_t columns) { return Floats<2>(exec, T, columns); };
    auto const scores  = [&] { return Floats<2>(exec, s.rows(), s.context); };
    auto const by_head = [&] { return Floats<2>(exec, s.sequences * D, s.context); };
    auto const scale   = [&] { return Floats<1>(exec, T); };
    for (index_t l = 0; l < layers; ++l) {
      blocks.push_back({.x               = rows(D),
                        .attention_in    = rows(D),
                        .attention_scale = scale(),
                        .qkv             = rows(3 * D),
                        .keys_t          = by_head(),
                        .values_t        = by_head(),
                        .prob            = scores(),
                        .attention       = rows(D),
                        .middle          = rows(D),
                        .moe_in          = rows(D),
                        .moe_scale       = scale()});
    }
    x = rows(D), final_in = rows(D), final_scale = scale();
    logits = rows(vocabulary), loss = scale();
    row_a = rows(D), row_b = rows(D), dx = rows(D);
    d_qkv = rows(3 * D), d_score = scores();
  }
};

}  // namespace train_lm
