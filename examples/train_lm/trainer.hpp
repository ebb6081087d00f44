#pragma once
// A run: its state, its steps, and how it is judged; of one rank, or of one of several that share
// it, which call the same functions in the same order.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "adamw.hpp"
#include "checkpoint.hpp"
#include "data.hpp"
#include "gradient_blocks.hpp"
#include "model.hpp"

namespace train_lm {

// What a step did, as far as the host wants to know.
struct StepReport {
  double loss         = 0;  // nat per byte
  double balance_loss = 0;  // sum over blocks, as it stands in the objective
  double worst_load   = 0;  // largest load over the mean, of the worst block
  double dropped      = 0;  // fraction of all assignments
};

template <class ExecT>
class Trainer {
 public:
  // `ranks` must outlive it.
  Trainer(ExecT const& exec, Options const& options, Ranks<ExecT> const& ranks)
      : exec_{exec},
        options_{options},
        ranks_{ranks},
        part_{ranks.part_of(options.batch)},
        model_(exec, options, ranks),
        pieces_{model_.pieces()},
        params_{model_.make_params()},
        grads_{model_.make_params()},
        activations_{model_.make_activations(part_.count, options.context)},
        adamw_(exec, ranks, pieces_, AdamWOptions{.learning_rate = options.learning_rate}),
        token_(exec, part_.count * options.context),
        target_(exec, part_.count * options.context)
  {
    if (options.reproducible) {
      index_t const most = (options.batch + ranks.size() - 1) / ranks.size();
      blocks_            = GradientBlocks<ExecT>(exec, model_.sizes(), part_.count, most);
    }
    model_.initialize(params_.view(), static_cast<std::uint64_t>(options.seed) * 1000);
    begin_step();
  }

  [[nodiscard]] index_t parameter_count() const { return pieces_.whole; }  // of all ranks
  [[nodiscard]] index_t steps_done() const { return step_; }

  void step(Corpus const& corpus)
  {
    auto const seed = static_cast<std::uint64_t>(options_.seed);
    upload(corpus.batch(seed, step_, part_.count, part_.first));
    model_.forward(params_.const_view(), token_.const_view(), Mode::train, activations_);
    model_.objective(target_.const_view(), activations_, options_.batch * options_.context);
    backward();
    adamw_.step(exec_, step_ + 1, schedule(), params_.flat(), grads_.flat());
    for (auto const& block : model_.blocks()) {
      block->end_step(exec_);
    }
    ++step_;
    begin_step();
  }

  // Of the last step, over all ranks; waits for it.
  [[nodiscard]] StepReport report()
  {
    StepReport report{.loss = mean(activations_.loss.const_view(), part_, options_.batch)};
    double dropped = 0, assigned = 0;
    for (auto const& block : model_.blocks()) {
      auto const b = block->report(exec_);
      report.balance_loss += b.loss;
      report.worst_load = std::max(report.worst_load, b.load.max_over_mean());
      dropped += static_cast<double>(b.load.dropped.size());
      assigned += static_cast<double>(b.load.assigned);
    }
    report.dropped = assigned > 0 ? dropped / assigned : 0;
    return report;
  }

  enum class Experts { routed, silenced };

  // Mean loss of these windows, nat per byte; silenced: with routed experts that answer zero.
  [[nodiscard]] double evaluate(Windows const& windows, Experts experts)
  {
    auto params = model_.make_params();
    exec_.copy(params.flat().data_handle(), params_.flat().data_handle(), bytes_of(params_.flat()));
    if (experts == Experts::silenced) {
      for (std::size_t l = 0; l < model_.blocks().size(); ++l) {
        model_.blocks()[l]->silence(exec_, params.view().blocks[l].moe);
      }
    }
    double sum        = 0;
    index_t const all = windows.count * windows.context;
    for (index_t first = 0; first < windows.count; first += options_.batch) {
      index_t const count  = std::min(options_.batch, windows.count - first);
      index_t const tokens = count * windows.context;
      Part const part      = ranks_.part_of(count);
      auto a               = model_.make_activations(part.count, windows.context);
      index_t const from   = (first + part.first) * windows.context;
      auto const token     = place(windows.token, from, a.shape.tokens());
      auto const target    = place(windows.target, from, a.shape.tokens());
      model_.forward(params.const_view(), token.const_view(), Mode::evaluate, a);
      model_.objective(target.const_view(), a, tokens);
      sum += mean(a.loss.const_view(), part, count) * static_cast<double>(tokens);
    }
    return sum / static_cast<double>(all);
  }

  // The byte after `text`, drawn at a temperature; `draw` in (0, 1) picks it. Every rank has the
  // text, and gets the same byte.
  [[nodiscard]] unsigned char next_byte(std::string const& text, double temperature, double draw)
  {
    auto const length = std::min(text.size(), static_cast<std::size_t>(options_.context));
    std::vector<Id> token;
    for (std::size_t i = text.size() - length; i < text.size(); ++i) {
      token.push_back(static_cast<unsigned char>(text[i]));
    }
    auto a            = model_.make_activations(1, static_cast<index_t>(length));
    auto const placed = place(token, 0, a.shape.tokens());
    model_.forward(params_.const_view(), placed.const_view(), Mode::evaluate, a);
    auto const logits = download(View<float const, 1, ExecT>(
        a.logits.const_view().data_handle() + (a.shape.tokens() - 1) * vocabulary, vocabulary));

    return draw_byte(logits, temperature, draw);
  }

  // Whether the parameters that every rank has are the same on all of them, to the bit.
  [[nodiscard]] bool ranks_agree()
  {
    auto const first = gathered(params_.flat());
    auto const mine  = download(params_.flat());
    float differing  = 0;
    for (Piece const& p : pieces_.list) {
      bool const same =
          !p.on_all || std::memcmp(first.data() + p.whole, mine.data() + p.here, bytes_of(p)) == 0;
      differing += same ? 0.f : 1.f;
    }
    Tensor<float, 1, ExecT> of_all(exec_, 1);
    exec_.copy_from_host(of_all.view().data_handle(), &differing, sizeof differing);
    ranks_.sum(exec_, of_all.view());
    return download(of_all.const_view())[0] == 0;
  }

  // Everything that a run needs to go on with the same bits.
  [[nodiscard]] Checkpoint save(Corpus const& corpus)
  {
    Checkpoint c;
    for (auto const& [name, value] : run_settings(options_)) {
      c.metadata["option " + name] = value;
    }
    c.metadata["step"]        = std::to_string(step_);
    c.metadata["fingerprint"] = std::to_string(corpus.fingerprint());
    for_each_state([&](std::string const& name, View<float, 1, ExecT> values, bool in_pieces) {
      auto all        = in_pieces ? gathered(values) : download(values);
      c.tensors[name] = {{static_cast<index_t>(all.size())}, std::move(all)};
    });
    return c;
  }
  void load(Checkpoint const& c)
  {
    for_each_state([&](std::string const& name, View<float, 1, ExecT> values, bool in_pieces) {
      auto const& stored = c.tensor(name, in_pieces ? pieces_.whole : values.extent(0)).values;
      if (!in_pieces) {
        exec_.copy_from_host(values.data_handle(), stored.data(), bytes_of(values));
      }
      for (Piece const& p : in_pieces ? pieces_.list : std::vector<Piece>{}) {
        if (p.here < 0) { continue; }
        exec_.copy_from_host(values.data_handle() + p.here, stored.data() + p.whole, bytes_of(p));
      }
    });
    step_ = c.number("step");
    begin_step();
  }

 private:
  using Mode = typename Model<ExecT>::Mode;

  // The gradient of the whole batch, of what this rank has.
  void backward()
  {
    auto const p = params_.const_view();
    auto const t = token_.const_view();
    auto const g = grads_.view();
    if (options_.reproducible) {
      model_.backward(p, t, activations_, g, blocks_.begin(exec_));
      blocks_.sum(exec_, ranks_, g);
    } else {
      model_.backward(p, t, activations_, g);
      model_.all_reduce_gradients(ranks_, g);
    }
  }

  // in_pieces: of which a rank has its pieces
  template <class Visit>
  void for_each_state(Visit const& visit)
  {
    visit("parameters", params_.flat(), true);
    visit("adamw.m", adamw_.m(), true);
    visit("adamw.v", adamw_.v(), true);
    for (std::size_t l = 0; l < model_.blocks().size(); ++l) {
      auto const bias = model_.blocks()[l]->selection_bias();
      if (!bias.empty()) { visit("selection_bias." + std::to_string(l), bias, false); }
    }
  }
  // All ranks' pieces, as a single rank has them.
  [[nodiscard]] std::vector<float> gathered(View<float const, 1, ExecT> values) const
  {
    Tensor<float, 1, ExecT> all(exec_, pieces_.whole);
    exec_.zero(all.view().data_handle(), all.bytes());
    for (Piece const& p : pieces_.list) {
      if (!p.counts_at(ranks_.rank())) { continue; }
      exec_.copy(all.view().data_handle() + p.whole, values.data_handle() + p.here, bytes_of(p));
    }
    ranks_.sum(exec_, all.view());
    return download(all.const_view());
  }

  // What the blocks know of time is always that of the step to come, so that a resumed run
  // evaluates as the one that went on.
  void begin_step()
  {
    for (auto const& block : model_.blocks()) {
      block->begin_step(exec_, step_, progress());
    }
  }
  [[nodiscard]] double progress() const
  {
    return static_cast<double>(step_) / static_cast<double>(options_.steps);
  }
  // Of the learning rate: up in the first twentieth, then half a cosine down to a twentieth.
  [[nodiscard]] double schedule() const
  {
    double const warm = std::max(1.0, 0.05 * static_cast<double>(options_.steps));
    double const up   = std::min(1.0, static_cast<double>(step_ + 1) / warm);
    return up * (0.05 + 0.95 * 0.5 * (1 + std::cos(3.14159265358979 * progress())));
  }

  void upload(Windows const& w)
  {
    exec_.copy_from_host(token_.view().data_handle(), w.token.data(), token_.bytes());
    exec_.copy_from_host(target_.view().data_handle(), w.target.data(), target_.bytes());
  }
  [[nodiscard]] Tensor<Id, 1, ExecT> place(std::vector<Id> const& ids,
                                           index_t first,
                                           index_t n) const
  {
    Tensor<Id, 1, ExecT> placed(exec_, n);
    exec_.copy_from_host(placed.view().data_handle(), ids.data() + first, placed.bytes());
    return placed;
  }
  [[nodiscard]] std::vector<float> download(View<float const, 1, ExecT> from) const
  {
    ranks_.wait(exec_);
    std::vector<float> to(static_cast<std::size_t>(from.extent(0)));
    exec_.copy_to_host(to.data(), from.data_handle(), to.size() * sizeof(float));
    return to;
  }
  // Of the losses of `batch` sequences, of which this rank has a part: added up in one order,
  // whoever has which.
  [[nodiscard]] double mean(View<float const, 1, ExecT> mine, Part const& part, index_t batch) const
  {
    index_t const tokens = batch * options_.context;
    Tensor<float, 1, ExecT> all(exec_, tokens);
    exec_.zero(all.view().data_handle(), all.bytes());
    exec_.copy(all.view().data_handle() + part.first * options_.context,
               mine.data_handle(),
               bytes_of(mine));
    ranks_.sum(exec_, all.view());
    auto const losses = download(all.const_view());
    return std::accumulate(losses.begin(), losses.end(), 0.0) / static_cast<double>(tokens);
  }
  static std::size_t bytes_of(View<float const, 1, ExecT> values)
  {
    return static_cast<std::size_t>(values.size()) * sizeof(float);
  }
  static std::size_t bytes_of(Piece const& p)
  {
    return static_cast<std::size_t>(p.count) * sizeof(float);
  }

  ExecT exec_;
  Options options_;
  Ranks<ExecT> const& ranks_;
  Part part_;  // of the batch's sequences
  Model<ExecT> model_;
  Pieces pieces_;
  moe::OwnedParams<ModelParams, float, ModelSizes, ExecT> params_, grads_;
  GradientBlocks<ExecT> blocks_;  // where --reproducible
  Activations<ExecT> activations_;
  AdamW<ExecT> adamw_;
  Tensor<Id, 1, ExecT> token_, target_;  // (T) of this rank
  index_t step_ = 0;
};

}  // namespace train_lm
