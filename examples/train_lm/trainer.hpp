#pragma once
// A run: its state, its steps, and how it is judged.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "adamw.hpp"
#include "checkpoint.hpp"
#include "data.hpp"
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
  Trainer(ExecT const& exec, Options const& options)
      : exec_{exec},
        options_{options},
        model_(exec, options),
        params_{model_.make_params()},
        grads_{model_.make_params()},
        activations_{model_.make_activations(options.batch, options.context)},
        adamw_(
            exec, params_.flat().extent(0), AdamWOptions{.learning_rate = options.learning_rate}),
        token_(exec, options.batch * options.context),
        target_(exec, options.batch * options.context)
  {
    model_.initialize(params_.view(), static_cast<std::uint64_t>(options.seed) * 1000);
    begin_step();
  }

  [[nodiscard]] index_t parameter_count() const { return params_.const_flat().extent(0); }
  [[nodiscard]] index_t steps_done() const { return step_; }

  void step(Corpus const& corpus)
  {
    auto const seed = static_cast<std::uint64_t>(options_.seed);
    upload(corpus.batch(seed, step_, options_.batch));
    model_.forward(params_.const_view(), token_.const_view(), Mode::train, activations_);
    model_.objective(target_.const_view(), activations_);
    model_.backward(params_.const_view(), token_.const_view(), activations_, grads_.view());
    adamw_.step(exec_, step_ + 1, schedule(), params_.flat(), grads_.flat());
    for (auto const& block : model_.blocks()) {
      block->end_step(exec_);
    }
    ++step_;
    begin_step();
  }

  // Of the last step; waits for it.
  [[nodiscard]] StepReport report()
  {
    StepReport report{.loss = mean(download(activations_.loss.const_view()))};
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
    exec_.copy(params.flat().data_handle(), params_.flat().data_handle(), flat_bytes());
    if (experts == Experts::silenced) {
      for (std::size_t l = 0; l < model_.blocks().size(); ++l) {
        model_.blocks()[l]->silence(exec_, params.view().blocks[l].moe);
      }
    }
    double sum        = 0;
    index_t const all = windows.count * windows.context;
    for (index_t first = 0; first < windows.count; first += options_.batch) {
      index_t const count = std::min(options_.batch, windows.count - first);
      auto a              = model_.make_activations(count, windows.context);
      auto const token    = place(windows.token, first * windows.context, a.shape.tokens());
      auto const target   = place(windows.target, first * windows.context, a.shape.tokens());
      model_.forward(params.const_view(), token.const_view(), Mode::evaluate, a);
      model_.objective(target.const_view(), a);
      sum += mean(download(a.loss.const_view())) * static_cast<double>(a.shape.tokens());
    }
    return sum / static_cast<double>(all);
  }

  // The byte after `text`, drawn at a temperature; `draw` in (0, 1) picks it.
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

    double const largest = static_cast<double>(*std::ranges::max_element(logits));
    std::vector<double> until;  // cumulative
    for (float const z : logits) {
      double const p = std::exp((static_cast<double>(z) - largest) / temperature);
      until.push_back((until.empty() ? 0 : until.back()) + p);
    }
    auto const found = std::ranges::upper_bound(until, draw * until.back());
    return static_cast<unsigned char>(
        std::min<std::ptrdiff_t>(found - until.begin(), vocabulary - 1));
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
    for_each_state([&](std::string const& name, View<float, 1, ExecT> values) {
      c.tensors[name] = {{values.extent(0)}, download(values)};
    });
    return c;
  }
  void load(Checkpoint const& c)
  {
    for_each_state([&](std::string const& name, View<float, 1, ExecT> values) {
      auto const& stored = c.tensor(name, values.extent(0)).values;
      exec_.copy_from_host(values.data_handle(), stored.data(), stored.size() * sizeof(float));
    });
    step_ = c.number("step");
    begin_step();
  }

 private:
  using Mode = typename Model<ExecT>::Mode;

  template <class Visit>
  void for_each_state(Visit const& visit)
  {
    visit("parameters", params_.flat());
    visit("adamw.m", adamw_.m());
    visit("adamw.v", adamw_.v());
    for (std::size_t l = 0; l < model_.blocks().size(); ++l) {
      auto const bias = model_.blocks()[l]->selection_bias();
      if (!bias.empty()) { visit("selection_bias." + std::to_string(l), bias); }
    }
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
    std::vector<float> to(static_cast<std::size_t>(from.extent(0)));
    exec_.copy_to_host(to.data(), from.data_handle(), to.size() * sizeof(float));
    return to;
  }
  static double mean(std::vector<float> const& values)
  {
    return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
  }
  [[nodiscard]] std::size_t flat_bytes() const
  {
    return static_cast<std::size_t>(parameter_count()) * sizeof(float);
  }

  ExecT exec_;
  Options options_;
  Model<ExecT> model_;
  moe::OwnedParams<ModelParams, float, ModelSizes, ExecT> params_, grads_;
  Activations<ExecT> activations_;
  AdamW<ExecT> adamw_;
  Tensor<Id, 1, ExecT> token_, target_;  // (T)
  index_t step_ = 0;
};

}  // namespace train_lm
