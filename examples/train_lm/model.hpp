#pragma once
// The model: bytes -> embedding -> blocks of (attention, mixture of experts) -> logits of the next
// byte, with the embedding's table as the output's (MiniMind). Forward and backward line by line.
#include <algorithm>
#include <iterator>
#include <vector>

#include <moe/core/initialize.hpp>

#include "cross_entropy.hpp"
#include "model_memory.hpp"
#include "norm.hpp"
#include "ranks.hpp"
#include "rope.hpp"

namespace train_lm {

using moe::Result;
using moe::Transpose;

// to += from
template <class ExecT>
struct AddRow {
  View<float const, 2, ExecT> from;
  View<float, 2, ExecT> to;
  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t t) const
  {
    for (index_t d = team.lane(); d < to.extent(1); d += team.size()) {
      to(t, d) += from(t, d);
    }
  }
};

// Knows shapes and policies; parameters and activations are the caller's. Over ranks each works on
// its part of the batch, and what differs is in `ranks` and in the blocks that it makes.
template <class ExecT>
class Model {
 public:
  using Params      = ModelParams<float, ExecT>;
  using ConstParams = ModelParams<float const, ExecT>;
  using Tokens      = View<Id const, 1, ExecT>;  // (T)

  Model(ExecT const& exec, Options const& o, Ranks<ExecT> const& ranks)
      : exec_{exec},
        heads_{o.heads},
        rope_{make_rope_table<float>(exec, o.context, o.hidden / o.heads)}
  {
    auto const part = ranks.part_of(o.batch);
    for (index_t l = 0; l < o.layers; ++l) {
      blocks_.push_back(ranks.make_block(exec,
                                         o,
                                         {.hidden      = o.hidden,
                                          .experts     = o.expert_count,
                                          .ffn         = o.ffn,
                                          .shared_ffn  = o.shared_ffn,
                                          .sequences   = part.count,
                                          .context     = o.context,
                                          .first_token = part.first * o.context,
                                          .number      = l,
                                          .seed        = static_cast<std::uint64_t>(o.seed)}));
    }
    sizes_ = {.hidden = o.hidden, .layers = o.layers, .moe = blocks_[0]->pieces().here};
  }

  [[nodiscard]] ModelSizes const& sizes() const { return sizes_; }
  [[nodiscard]] auto make_params() const
  {
    return moe::OwnedParams<ModelParams, float, ModelSizes, ExecT>(exec_, sizes_);
  }
  [[nodiscard]] Pieces pieces() const
  {
    auto const block = blocks_[0]->pieces();  // they are alike
    auto all_sizes   = sizes_;
    all_sizes.moe    = block.whole;
    Layout<Params, ExecT> const here(sizes_), whole(all_sizes);
    auto const &mine = here.views(), &all = whole.views();
    Pieces p{.list = {}, .here = here.size(), .whole = whole.size()};
    add_on_all(p.list, spans(here, mine), spans(whole, all));
    for (std::size_t l = 0; l < blocks_.size(); ++l) {
      for (Piece const& piece : block.list) {
        p.list.push_back(
            piece.moved(here.offset(mine.blocks[l].moe), whole.offset(all.blocks[l].moe)));
      }
    }
    return p;
  }
  void initialize(Params const& params, std::uint64_t seed) const
  {
    moe::initialize(exec_, params, seed);
    for (std::size_t l = 0; l < blocks_.size(); ++l) {
      blocks_[l]->initialize(exec_, params.blocks[l].moe);
    }
  }
  [[nodiscard]] Activations<ExecT> make_activations(index_t sequences, index_t context) const
  {
    return {exec_, {sequences, context, heads_, sizes_.hidden / heads_}, sizes_.layers};
  }
  [[nodiscard]] std::vector<MoeBlockPtr<ExecT>>& blocks() { return blocks_; }

  enum class Mode { train, evaluate };

  // a.logits = model(token)
  void forward(ConstParams const& p, Tokens token, Mode mode, Activations<ExecT>& a) const
  {
    embed(exec_, token, p.embedding, a.x.view());
    for (std::size_t l = 0; l < blocks_.size(); ++l) {
      auto& b       = a.blocks[l];
      auto const& w = p.blocks[l];

      copy(a.x, b.x);
      norm(b.x, w.attention_norm, b.attention_in, b.attention_scale);
      linear(b.attention_in, w.qkv, Result::overwrite, b.qkv);
      attend(a.shape, b);
      linear(b.attention, w.out, Result::add, a.x);

      copy(a.x, b.middle);
      norm(b.middle, w.moe_norm, b.moe_in, b.moe_scale);
      if (mode == Mode::train) {
        blocks_[l]->forward(exec_, w.moe, b.moe_in.const_view(), a.row_a.view());
      } else {
        blocks_[l]->evaluate(
            exec_, w.moe, a.shape.sequences, b.moe_in.const_view(), a.row_a.view());
      }
      add(a.row_a, a.x);
    }
    norm(a.x, p.norm, a.final_in, a.final_scale);
    linear(a.final_in, p.embedding, Result::overwrite, a.logits);
  }

  // a.loss (T) of the targets; a.logits become the gradient of the whole batch's mean.
  void objective(Tokens target, Activations<ExecT>& a, index_t batch_tokens) const
  {
    cross_entropy(exec_, a.logits.view(), target, a.loss.view(), batch_tokens);
  }

  // grads += the gradient of mean(a.loss) and of the balancing losses; over ranks, this one's part
  // of it. a.dx is the gradient of the residual stream, to which each branch adds its part.
  void backward(ConstParams const& p,
                Tokens token,
                Activations<ExecT>& a,
                Params const& grads) const
  {
    backward(p, token, a, grads, {grads});
  }
  // The same, but only the blocks' to grads: what is beside them is computed of equal parts of the
  // tokens, each with a gradient of its own in `own` (B).
  void backward(ConstParams const& p,
                Tokens token,
                Activations<ExecT>& a,
                Params const& grads,
                std::vector<Params> const& own) const
  {
    auto& d_branch = a.row_a;
    auto& scratch  = a.row_b;
    exec_.zero(a.dx.view().data_handle(), a.dx.bytes());
    auto const each = [&](auto const& of) {  // that gradient, part by part
      std::vector<decltype(of(grads))> all;
      std::ranges::transform(own, std::back_inserter(all), of);
      return all;
    };
    auto const d_embedding = each([](auto& g) { return g.embedding; });
    auto const d_norm      = each([](auto& g) { return g.norm; });
    linear_backward(a.logits, a.final_in, p.embedding, d_branch, d_embedding);
    norm_backward(a.x, p.norm, a.final_scale, d_branch, a.dx, d_norm, scratch);

    for (std::size_t l = blocks_.size(); l-- > 0;) {
      auto& b                     = a.blocks[l];
      auto const& w               = p.blocks[l];
      auto const d_moe_norm       = each([l](auto& g) { return g.blocks[l].moe_norm; });
      auto const d_out            = each([l](auto& g) { return g.blocks[l].out; });
      auto const d_qkv            = each([l](auto& g) { return g.blocks[l].qkv; });
      auto const d_attention_norm = each([l](auto& g) { return g.blocks[l].attention_norm; });

      blocks_[l]->backward(exec_,
                           w.moe,
                           b.moe_in.const_view(),
                           a.dx.const_view(),
                           grads.blocks[l].moe,
                           d_branch.view());
      norm_backward(b.middle, w.moe_norm, b.moe_scale, d_branch, a.dx, d_moe_norm, scratch);

      linear_backward(a.dx, b.attention, w.out, d_branch, d_out);
      attend_backward(a.shape, b, d_branch, a.d_score, a.d_qkv);
      linear_backward(a.d_qkv, b.attention_in, w.qkv, d_branch, d_qkv);
      norm_backward(
          b.x, w.attention_norm, b.attention_scale, d_branch, a.dx, d_attention_norm, scratch);
    }
    for (std::size_t i = 0; i < own.size(); ++i) {
      auto const dx = part(a.dx.const_view(), i, own.size());
      embed_backward(exec_, part(token, i, own.size()), dx, d_embedding[i]);
    }
  }
  // Once per step: the ranks' parts of the gradient of what all of them have, added up.
  void all_reduce_gradients(Ranks<ExecT> const& ranks, Params const& grads) const
  {
    grads.for_each([&](char const*, auto const& view, moe::Init) {
      ranks.sum(exec_, View<float, 1, ExecT>(view.data_handle(), view.size()));
    });
    for (std::size_t l = 0; l < blocks_.size(); ++l) {
      blocks_[l]->all_reduce_gradients(exec_, grads.blocks[l].moe);
    }
  }

 private:
  using Matrix      = Tensor<float, 2, ExecT>;
  using Vector      = Tensor<float, 1, ExecT>;
  using Weight      = View<float const, 2, ExecT>;
  using Gain        = View<float const, 1, ExecT>;
  using BlockValues = typename Activations<ExecT>::Block;

  // y = or += x w^T
  void linear(Matrix const& x, Weight w, Result result, Matrix& y) const
  {
    gemm(exec_, Transpose::no, x.const_view(), Transpose::yes, w, result, y.view());
  }
  // dx = dy w, dw += dy^T x, that of each part of the tokens
  void linear_backward(Matrix const& dy,
                       Matrix const& x,
                       Weight w,
                       Matrix& dx,
                       std::vector<View<float, 2, ExecT>> const& dw) const
  {
    for (std::size_t i = 0; i < dw.size(); ++i) {
      auto const d = part(dy.const_view(), i, dw.size());
      auto const v = part(x.const_view(), i, dw.size());
      gemm(exec_, Transpose::yes, d, Transpose::no, v, Result::add, dw[i]);
    }
    gemm(exec_, Transpose::no, dy.const_view(), Transpose::no, w, Result::overwrite, dx.view());
  }
  void norm(Matrix const& x, Gain gain, Matrix& y, Vector& scale) const
  {
    rms_norm(exec_, x.const_view(), gain, y.view(), scale.view());
  }
  void norm_backward(Matrix const& x,
                     Gain gain,
                     Vector const& scale,
                     Matrix const& dy,
                     Matrix& dx,
                     std::vector<View<float, 1, ExecT>> const& d_gain,
                     Matrix& scratch) const
  {
    for (std::size_t i = 0; i < d_gain.size(); ++i) {
      auto const of = [&](auto const& view) { return part(view, i, d_gain.size()); };
      rms_norm_backward(exec_,
                        of(x.const_view()),
                        gain,
                        of(scale.const_view()),
                        of(dy.const_view()),
                        of(dx.view()),
                        d_gain[i],
                        of(scratch.view()));
    }
  }
  void attend(AttentionShape const& shape, BlockValues& b) const
  {
    rope(exec_, rope_.const_view(), b.qkv.view(), shape.context);
    attention(exec_,
              shape,
              b.qkv.const_view(),
              b.keys_t.view(),
              b.values_t.view(),
              b.prob.view(),
              b.attention.view());
  }
  void attend_backward(AttentionShape const& shape,
                       BlockValues const& b,
                       Matrix const& d_out,
                       Matrix& d_score,
                       Matrix& d_qkv) const
  {
    attention_backward(exec_,
                       shape,
                       b.qkv.const_view(),
                       b.values_t.const_view(),
                       b.prob.const_view(),
                       d_out.const_view(),
                       d_score.view(),
                       d_qkv.view());
    rope_backward(exec_, rope_.const_view(), d_qkv.view(), shape.context);
  }
  void copy(Matrix const& from, Matrix& to) const
  {
    exec_.copy(to.view().data_handle(), from.const_view().data_handle(), from.bytes());
  }
  void add(Matrix const& from, Matrix& to) const
  {
    exec_.for_each_row(to.extent(0), AddRow<ExecT>{from.const_view(), to.view()});
  }

  ExecT exec_;
  index_t heads_;
  ModelSizes sizes_;
  Tensor<float, 2, ExecT> rope_;  // (C, Dh)
  std::vector<MoeBlockPtr<ExecT>> blocks_;
};

}  // namespace train_lm
