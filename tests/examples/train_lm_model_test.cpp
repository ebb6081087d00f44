// The trainer's own mathematics: every functor against plain loops and central differences in
// double, the whole model's gradient along each of its parameters, and what the verdict rests on.
#include <cmath>
#include <functional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <moe/exec/host/primitives.hpp>

#include "train_lm/adamw.hpp"
#include "train_lm/bigram.hpp"
#include "train_lm/data.cpp"  // the trainer is a program: what a test needs of it is compiled here
#include "train_lm/model.hpp"

namespace {

using moe::Host;
using moe::Id;
using moe::index_t;
using moe::View;
using Numbers = std::vector<double>;

Host const exec{{.threads = 2, .resource = nullptr, .products = moe::Products::own}};

Numbers random_numbers(index_t n, unsigned seed)
{
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal;
  Numbers numbers(static_cast<std::size_t>(n));
  for (double& x : numbers) {
    x = normal(generator);
  }
  return numbers;
}

template <class... Extents>
auto view(Numbers& of, Extents... extents)
{
  return View<double, sizeof...(Extents), Host>(of.data(), extents...);
}

double dot(Numbers const& a, Numbers const& b)
{
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    sum += a[i] * b[i];
  }
  return sum;
}

// gradient = d value / d x, by central differences
void check_gradient(char const* name,
                    Numbers x,
                    Numbers const& gradient,
                    std::function<double(Numbers&)> const& value)
{
  REQUIRE(x.size() == gradient.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    CAPTURE(name);
    CAPTURE(i);
    double const h = 1e-5, at = x[i];
    x[i]              = at + h;
    double const high = value(x);
    x[i]              = at - h;
    double const low  = value(x);
    x[i]              = at;
    CHECK(gradient[i] == doctest::Approx((high - low) / (2 * h)).epsilon(1e-6).scale(0.1));
  }
}

TEST_CASE("RMSNorm: value and gradient")
{
  index_t const T = 3, D = 7;
  auto x = random_numbers(T * D, 1), gain = random_numbers(D, 2), u = random_numbers(T * D, 3);
  Numbers y(x.size()), scale(static_cast<std::size_t>(T));
  auto const norm = [&](Numbers& of, Numbers& with) {
    train_lm::rms_norm(exec, view(of, T, D), view(with, D), view(y, T, D), view(scale, T));
    return dot(y, u);
  };
  norm(x, gain);
  double squares = 0;
  for (std::size_t d = 0; d < 7; ++d) {
    squares += x[d] * x[d];
  }
  CHECK(y[2] == doctest::Approx(x[2] / std::sqrt(squares / 7 + 1e-5) * (1 + gain[2])));

  auto const before = random_numbers(T * D, 4);
  Numbers dx = before, d_gain = gain, scratch(x.size());  // both are added to
  train_lm::rms_norm_backward(exec,
                              view(x, T, D),
                              view(gain, D),
                              view(scale, T),
                              view(u, T, D),
                              view(dx, T, D),
                              view(d_gain, D),
                              view(scratch, T, D));
  for (std::size_t i = 0; i < dx.size(); ++i) {
    dx[i] -= before[i];
  }
  for (std::size_t d = 0; d < d_gain.size(); ++d) {
    d_gain[d] -= gain[d];
  }
  check_gradient("x", x, dx, [&](Numbers& at) { return norm(at, gain); });
  check_gradient("gain", gain, d_gain, [&](Numbers& at) { return norm(x, at); });
}

TEST_CASE("cross-entropy: value and gradient of the mean")
{
  index_t const T = 4, V = 5;
  std::vector<Id> target{0, 4, 2, 2};
  auto z = random_numbers(T * V, 5);
  z[7]   = 800;  // exp of it is infinite
  Numbers loss(static_cast<std::size_t>(T));
  auto const mean = [&](Numbers& logits) {
    Numbers work = logits;
    train_lm::cross_entropy(
        exec, view(work, T, V), View<Id const, 1, Host>(target.data(), T), view(loss, T), T);
    return (loss[0] + loss[1] + loss[2] + loss[3]) / 4;
  };
  mean(z);
  CHECK(loss[1] == doctest::Approx(800 - z[9]));
  double sum = 0;
  for (std::size_t v = 0; v < 5; ++v) {
    sum += std::exp(z[v]);
  }
  CHECK(loss[0] == doctest::Approx(std::log(sum) - z[0]));

  Numbers gradient = z;
  train_lm::cross_entropy(
      exec, view(gradient, T, V), View<Id const, 1, Host>(target.data(), T), view(loss, T), T);
  check_gradient("logits", z, gradient, mean);
}

TEST_CASE("attention with turned queries and keys: value and gradient")
{
  train_lm::AttentionShape const shape{.sequences = 2, .context = 5, .heads = 3, .head = 4};
  index_t const T = shape.tokens(), D = shape.hidden(), C = shape.context;
  auto table   = train_lm::make_rope_table<double>(exec, C, shape.head);
  auto qkv     = random_numbers(T * 3 * D, 6);
  auto const u = random_numbers(T * D, 7);
  Numbers turned, keys_t(static_cast<std::size_t>(T * D)), values_t(keys_t), out(keys_t);
  Numbers prob(static_cast<std::size_t>(shape.rows() * C));
  auto const attend = [&](Numbers const& from) {
    turned = from;
    train_lm::rope(exec, table.const_view(), view(turned, T, 3 * D), C);
    train_lm::attention(exec,
                        shape,
                        view(turned, T, 3 * D),
                        view(keys_t, T * D / C, C),
                        view(values_t, T * D / C, C),
                        view(prob, shape.rows(), C),
                        view(out, T, D));
    return dot(out, u);
  };
  attend(qkv);

  // The same by plain loops. Pairs (d, d + 2) of a head turn by position / 100^d.
  auto const rotated = [&](index_t t, index_t part, index_t head, index_t d) {
    double const angle =
        static_cast<double>(t % C) * std::pow(10000.0, -static_cast<double>(d % 2) / 2);
    auto const raw = [&](index_t at) {
      return qkv[static_cast<std::size_t>(t * 3 * D + part * D + head * 4 + at)];
    };
    return d < 2 ? raw(d) * std::cos(angle) - raw(d + 2) * std::sin(angle)
                 : raw(d) * std::cos(angle) + raw(d - 2) * std::sin(angle);
  };
  for (index_t t = 0; t < T; ++t) {
    for (index_t head = 0; head < shape.heads; ++head) {
      Numbers weight;
      double total = 0;
      for (index_t j = t - t % C; j <= t; ++j) {
        double score = 0;
        for (index_t d = 0; d < 4; ++d) {
          score += rotated(t, 0, head, d) * rotated(j, 1, head, d);
        }
        weight.push_back(std::exp(score / 2));
        total += weight.back();
      }
      for (index_t d = 0; d < 4; ++d) {
        double expected = 0;
        for (std::size_t j = 0; j < weight.size(); ++j) {
          auto const at = (t - t % C + static_cast<index_t>(j)) * 3 * D + 2 * D + head * 4 + d;
          expected += weight[j] / total * qkv[static_cast<std::size_t>(at)];
        }
        CHECK(out[static_cast<std::size_t>(t * D + head * 4 + d)] == doctest::Approx(expected));
      }
    }
  }

  Numbers d_qkv(qkv.size()), d_score(prob.size()), d_out = u;
  train_lm::attention_backward(exec,
                               shape,
                               view(turned, T, 3 * D),
                               view(values_t, T * D / C, C),
                               view(prob, shape.rows(), C),
                               view(d_out, T, D),
                               view(d_score, shape.rows(), C),
                               view(d_qkv, T, 3 * D));
  train_lm::rope_backward(exec, table.const_view(), view(d_qkv, T, 3 * D), C);
  check_gradient("qkv", qkv, d_qkv, attend);
}

TEST_CASE("embedding: rows are taken, and their gradients summed")
{
  index_t const T = 6, D = 3;
  std::vector<Id> const token{7, 255, 7, 0, 7, 255};
  auto table = random_numbers(256 * D, 8), dx = random_numbers(T * D, 9);
  Numbers x(static_cast<std::size_t>(T * D)), d_table(table.size(), 1.0),
      expected(table.size(), 1.0);
  View<Id const, 1, Host> const tokens(token.data(), T);
  train_lm::embed(exec, tokens, view(table, 256, D), view(x, T, D));
  train_lm::embed_backward(exec, tokens, view(dx, T, D), view(d_table, 256, D));
  for (std::size_t t = 0; t < token.size(); ++t) {
    for (std::size_t d = 0; d < 3; ++d) {
      auto const at = static_cast<std::size_t>(token[t]) * 3 + d;
      CHECK(x[t * 3 + d] == table[at]);
      expected[at] += dx[t * 3 + d];
    }
  }
  CHECK(d_table == expected);
}

// In place of a mixture of experts: y = p x elementwise, p (D).
struct ScaleBlock : train_lm::MoeBlock<Host> {
  explicit ScaleBlock(index_t hidden) : D{hidden} {}
  index_t D;

  [[nodiscard]] train_lm::Pieces pieces() const override
  {
    return {.list = {{.count = D, .on_all = true}}, .here = D, .whole = D};
  }
  void initialize(Host const&, View<float, 1, Host> p) const override
  {
    for (index_t d = 0; d < D; ++d) {
      p(d) = 0.5f + 0.1f * static_cast<float>(d);
    }
  }
  void begin_step(Host const&, index_t, double) override {}
  void forward(Host const& host, Values p, Rows x, RowsOut y) override
  {
    evaluate(host, p, 1, x, y);
  }
  void backward(Host const&, Values p, Rows x, Rows dy, Gradients g, RowsOut dx) override
  {
    std::fill_n(g.data_handle(), D, 0.f);
    for (index_t t = 0; t < x.extent(0); ++t) {
      for (index_t d = 0; d < D; ++d) {
        g(d) += dy(t, d) * x(t, d);
        dx(t, d) = dy(t, d) * p(d);
      }
    }
  }
  void all_reduce_gradients(Host const&, Gradients) const override {}
  void end_step(Host const&) override {}
  void evaluate(Host const&, Values p, index_t, Rows x, RowsOut y) const override
  {
    for (index_t t = 0; t < x.extent(0); ++t) {
      for (index_t d = 0; d < D; ++d) {
        y(t, d) = p(d) * x(t, d);
      }
    }
  }
  void silence(Host const&, View<float, 1, Host>) const override {}
  [[nodiscard]] train_lm::BlockReport report(Host const&) const override { return {}; }
  [[nodiscard]] View<float, 1, Host> selection_bias() override { return {}; }
};

}  // namespace

template <>
train_lm::MoeBlockPtr<Host> train_lm::make_moe_block(Host const&,
                                                     Policies const&,
                                                     BlockShape const& shape)
{
  return std::make_unique<ScaleBlock>(shape.hidden);
}

namespace {

TEST_CASE("the whole model's gradient along each of its parameters")
{
  train_lm::Options options;
  options.layers = 2, options.hidden = 8, options.heads = 2, options.context = 6, options.batch = 2;
  train_lm::Model<Host> const model(exec, options, train_lm::OneRank<Host>{});
  auto params = model.make_params(), grads = model.make_params();
  model.initialize(params.view(), 3);
  auto a = model.make_activations(2, 6);
  std::vector<Id> const token{65, 66, 65, 67, 66, 65, 1, 2, 3, 1, 2, 3};
  std::vector<Id> const target{66, 65, 67, 66, 65, 65, 2, 3, 1, 2, 3, 1};
  View<Id const, 1, Host> const tokens(token.data(), 12), targets(target.data(), 12);
  auto const loss = [&] {
    model.forward(params.const_view(), tokens, train_lm::Model<Host>::Mode::train, a);
    model.objective(targets, a, 12);
    double sum = 0;
    for (index_t t = 0; t < 12; ++t) {
      sum += static_cast<double>(a.loss.const_view()(t));
    }
    return sum / 12;
  };
  loss();
  model.backward(params.const_view(), tokens, a, grads.view());

  // Along the gradient itself, so that float's rounding is small beside the difference.
  auto const along = [&](std::string const& name, auto const& values, auto const& gradient) {
    CAPTURE(name);
    double squares = 0;
    for (index_t i = 0; i < values.size(); ++i) {
      squares += std::pow(static_cast<double>(gradient.data_handle()[i]), 2);
    }
    double const norm = std::sqrt(squares);
    CHECK(norm > 1e-4);
    auto const move = [&](double by) {
      for (index_t i = 0; i < values.size(); ++i) {
        values.data_handle()[i] +=
            static_cast<float>(by * static_cast<double>(gradient.data_handle()[i]) / norm);
      }
    };
    double const h = 1e-2;
    move(h);
    double const high = loss();
    move(-2 * h);
    double const low = loss();
    move(h);
    CHECK(norm == doctest::Approx((high - low) / (2 * h)).epsilon(0.01));
  };
  auto const p = params.view(), g = grads.view();
  along("embedding", p.embedding, g.embedding);
  along("norm", p.norm, g.norm);
  for (std::size_t l = 0; l < 2; ++l) {
    along("attention norm", p.blocks[l].attention_norm, g.blocks[l].attention_norm);
    along("qkv", p.blocks[l].qkv, g.blocks[l].qkv);
    along("out", p.blocks[l].out, g.blocks[l].out);
    along("moe norm", p.blocks[l].moe_norm, g.blocks[l].moe_norm);
    along("moe", p.blocks[l].moe, g.blocks[l].moe);
  }
}

TEST_CASE("AdamW steps as its equations say, the gradient's norm clipped")
{
  index_t const n = 5000;  // more than a block
  train_lm::AdamWOptions const o{.learning_rate = 0.1, .weight_decay = 0.2, .clip = 3};
  train_lm::OneRank<Host> const one;
  train_lm::AdamW<Host> adamw(exec, one, {.list = {{.count = n}}, .here = n, .whole = n}, o);
  std::vector<float> w(n), g(n);
  Numbers expected(n), m(n), v(n);
  std::mt19937 generator(1);
  std::normal_distribution<float> normal;
  for (std::size_t i = 0; i < w.size(); ++i) {
    w[i]        = normal(generator);
    expected[i] = static_cast<double>(w[i]);
  }
  for (int t = 1; t <= 3; ++t) {
    double squares = 0;
    for (float& x : g) {
      x = normal(generator) * (t == 2 ? 0.001f : 1.f);  // the second is not clipped
      squares += static_cast<double>(x) * static_cast<double>(x);
    }
    double const clip = std::min(1.0, 3 / std::sqrt(squares)), rate = 0.1 * 0.5;
    for (std::size_t i = 0; i < w.size(); ++i) {
      double const d     = clip * static_cast<double>(g[i]);
      m[i]               = 0.9 * m[i] + 0.1 * d;
      v[i]               = 0.99 * v[i] + 0.01 * d * d;
      double const m_hat = m[i] / (1 - std::pow(0.9, t)), v_hat = v[i] / (1 - std::pow(0.99, t));
      expected[i] -= rate * (m_hat / (std::sqrt(v_hat) + 1e-8) + 0.2 * expected[i]);
    }
    adamw.step(exec, t, 0.5, View<float, 1, Host>(w.data(), n), View<float, 1, Host>(g.data(), n));
    CHECK(std::ranges::all_of(g, [](float x) { return x == 0; }));
  }
  double worst = 0;
  for (std::size_t i = 0; i < w.size(); ++i) {
    worst = std::max(worst, std::fabs(static_cast<double>(w[i]) - expected[i]));
  }
  CHECK(worst < 1e-4);
}

TEST_CASE("the bigram model is a distribution, and its smoothing the best one")
{
  std::string const text = "abababacab aca bad cab abba";
  train_lm::Bigram const bigram({text, "dada"});
  for (double const smoothing : {0.01, 1.0, 50.0}) {
    for (Id const a : {Id{'a'}, Id{'c'}, Id{'z'}}) {
      double total = 0;
      for (Id b = 0; b < 256; ++b) {
        total += std::exp(-bigram.loss({a}, {b}, smoothing));
      }
      CHECK(total == doctest::Approx(1));
    }
  }
  // Pairs aa, ab | ba, none across the pieces; b is 2 of 5 bytes.
  train_lm::Bigram const small({"aab", "ba"});
  CHECK(small.loss({'a'}, {'b'}, 2) == doctest::Approx(-std::log((1 + 2 * (2.5 / 133)) / (2 + 2))));

  std::vector<Id> token, target;
  std::string const other = "abacadabraabcbabab";
  for (std::size_t i = 0; i + 1 < other.size(); ++i) {
    token.push_back(other[i]);
    target.push_back(other[i + 1]);
  }
  auto const best = bigram.tuned(token, target);
  CHECK(best.loss == bigram.loss(token, target, best.smoothing));
  for (double log_smoothing = -6; log_smoothing < 9; log_smoothing += 0.05) {
    CHECK(best.loss <= bigram.loss(token, target, std::exp(log_smoothing)) + 1e-5);
  }
}

TEST_CASE("no byte that validation predicts is trained on")
{
  // Every four bytes of this text are a number, so a window tells where it is from.
  std::string text;
  for (unsigned i = 0; i < 20000; ++i) {
    for (unsigned shift : {0u, 8u, 16u, 24u}) {
      text += static_cast<char>((i * 2654435761u) >> shift);
    }
  }
  index_t const C = 16;
  train_lm::Corpus const corpus(text, C);
  auto const windows_of = [&](train_lm::Windows const& w) {
    std::vector<std::string> windows;
    REQUIRE(static_cast<index_t>(w.token.size()) == w.count * C);
    for (index_t i = 0; i < w.count; ++i) {
      std::string bytes;
      for (index_t at = i * C; at < (i + 1) * C; ++at) {
        auto const here = static_cast<std::size_t>(at);
        if (at > i * C) { CHECK(w.token[here] == w.target[here - 1]); }
        bytes += static_cast<char>(w.token[here]);
      }
      windows.push_back(bytes +
                        static_cast<char>(w.target[static_cast<std::size_t>((i + 1) * C - 1)]));
    }
    return windows;
  };
  std::set<std::size_t> trained, judged;
  for (index_t step = 0; step < 200; ++step) {
    for (auto const& window : windows_of(corpus.batch(1, step, 16))) {
      auto const at = text.find(window);
      REQUIRE(at != std::string::npos);
      for (std::size_t i = 0; i < window.size(); ++i) {
        trained.insert(at + i);
      }
    }
  }
  auto const validation = windows_of(corpus.validation(4000));
  CHECK(validation.size() == 250);
  for (auto const& window : validation) {
    auto const at = text.find(window);
    REQUIRE(at != std::string::npos);
    for (std::size_t i = 0; i < window.size(); ++i) {
      judged.insert(at + i);
      CHECK(trained.count(at + i) == 0);
    }
  }
  CHECK(judged.size() > 3900);
  CHECK(trained.size() > 30000);
  CHECK(corpus.batch(1, 7, 4).token == corpus.batch(1, 7, 4).token);
  CHECK(corpus.batch(1, 7, 4).token != corpus.batch(1, 8, 4).token);
  CHECK(corpus.batch(1, 7, 4).token != corpus.batch(2, 7, 4).token);
}

}  // namespace
