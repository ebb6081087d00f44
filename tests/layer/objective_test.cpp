// Compile at -O1: many layers, little work in each.
// What the layer's objective is made of: masks, sequences, loss scale, micro-batches.
#include <support/layer_gradient.hpp>

using namespace moe;
using namespace moe::test;

namespace {

using Numbers = std::vector<double>;

// Everything that backward gives, gradients of the parameters from zero on.
struct Gradients {
  LayerOutcome out;
  Numbers dx;
  std::vector<Numbers> of;  // each parameter
};

Gradients gradients(GradientLayer& layer, LayerBatch batch)
{
  Gradients g{layer.forward(batch), {}, {}};
  layer.zero_gradients();
  layer.backward(batch);
  g.dx = batch.dx;
  for (auto const& p : layer.parameters) {
    g.of.emplace_back(p.gradient.begin(), p.gradient.end());
  }
  return g;
}

// |a - b| within 1e-12 of the largest.
void check_same(Numbers const& a, Numbers const& b)
{
  REQUIRE(a.size() == b.size());
  double largest = 0, difference = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    largest    = std::max(largest, std::abs(b[i]));
    difference = std::max(difference, std::abs(a[i] - b[i]));
  }
  CHECK(largest > 0);
  CHECK(difference <= 1e-12 * largest);
}

// sum of factor * numbers
Numbers combination(std::vector<std::pair<double, Numbers>> const& terms)
{
  Numbers sum(terms.front().second.size());
  for (auto const& [factor, numbers] : terms) {
    for (std::size_t i = 0; i < sum.size(); ++i) {
      sum[i] += factor * numbers[i];
    }
  }
  return sum;
}

Numbers rows_of(Numbers const& v, std::size_t columns, std::vector<std::size_t> const& rows)
{
  Numbers result;
  for (std::size_t const r : rows) {
    result.insert(result.end(),
                  v.begin() + static_cast<std::ptrdiff_t>(r * columns),
                  v.begin() + static_cast<std::ptrdiff_t>((r + 1) * columns));
  }
  return result;
}

void copy_parameters(GradientLayer const& from, GradientLayer& to)
{
  for (std::size_t i = 0; i < from.parameters.size(); ++i) {
    std::copy(from.parameters[i].value.begin(),
              from.parameters[i].value.end(),
              to.parameters[i].value.begin());
  }
}

// Masked tokens might as well not be there. `layer_of` makes the same layer at any shape.
template <class LayerOf>
void check_mask(std::string const& name, LayerOf const& layer_of)
{
  CAPTURE(name);
  LayerShape const full{.tokens = 12, .sequences = 3}, fewer{.tokens = 9, .sequences = 3};
  auto const D      = static_cast<std::size_t>(full.hidden);
  auto const masked = layer_of(full), removed = layer_of(fewer);
  LayerBatch batch = random_batch(*masked, 31);
  copy_parameters(*masked, *removed);
  batch.mask.assign(12, 1);
  batch.mask[0] = batch.mask[5] = batch.mask[11] = 0;  // one of each sequence
  std::vector<std::size_t> const out_rows{0, 5, 11}, live{1, 2, 3, 4, 6, 7, 8, 9, 10};
  auto const with = gradients(*masked, batch);
  CHECK(rows_of(with.out.y, D, out_rows) == Numbers(3 * D, 0.0));
  CHECK(rows_of(with.dx, D, out_rows) == Numbers(3 * D, 0.0));

  // Other values there change nothing, not even the bits of anything.
  LayerBatch other = batch;
  for (std::size_t const t : out_rows) {
    for (std::size_t d = 0; d < D; ++d) {
      other.x[t * D + d] += 3;
      other.dy[t * D + d] -= 5;
    }
  }
  auto const changed = gradients(*masked, other);
  CHECK(changed.out.y == with.out.y);
  CHECK(changed.out.losses == with.out.losses);
  CHECK(changed.out.decisions == with.out.decisions);
  CHECK(changed.dx == with.dx);
  CHECK(changed.of == with.of);

  LayerBatch without;
  without.x       = rows_of(batch.x, D, live);
  without.dy      = rows_of(batch.dy, D, live);
  auto const less = gradients(*removed, without);
  check_same(rows_of(with.out.y, D, live), less.out.y);
  check_same(rows_of(with.dx, D, live), less.dx);
  check_same(with.out.losses, less.out.losses);
  for (std::size_t i = 0; i < less.of.size(); ++i) {
    CAPTURE(masked->parameters[i].name);
    check_same(with.of[i], less.of[i]);
  }
}

auto balanced_layer()
{
  return Layer{SoftmaxTopK<2, renormalized>{},
               DropByPosition{CeilCapacity{.factor = 0.7}},
               BatchedDispatcher<>{},
               Ffn<SwiGlu>{},
               SwitchLoss{.coeff = 2},
               RouterZLoss{.coeff = 0.5}};
}

}  // namespace

TEST_CASE("a masked token has no output, no gradient and no influence")
{
  check_mask("dropless, losses over the batch and over sequences", [](LayerShape const& s) {
    return erase(Layer{SoftmaxTopK<2, renormalized>{},
                       Dropless{},
                       SerialDispatcher{},
                       Ffn<SwiGlu>{},
                       SwitchLoss{.coeff = 2},
                       MiniMindSequenceLoss{.coeff = 3},
                       RouterZLoss{.coeff = 0.5}},
                 s);
  });
  check_mask("slots go to the others", [](LayerShape const& s) {
    return erase(Layer{TopKSoftmax<2>{},
                       DropByTokenPriority{FixedCapacity{2}},
                       BatchedDispatcher<>{},
                       Ffn<Gelu, with_bias>{},
                       GShardLoss{.coeff = 2},
                       BiasedLinearGate{}},
                 s);
  });
}

TEST_CASE("gradients with masked tokens, for stage-level routers too")
{
  auto const check = [](std::string const& name, auto const& router) {
    check_layer_gradient(
        name, Layer{router, Dropless{}, BatchedDispatcher<>{}, Ffn<SwiGlu>{}}, {.mask = true});
  };
  check("softmax", SoftmaxTopK<2>{});
  check("noisy", NoisyTopK<2>{});
  check("expert choice", ExpertChoice{.factor = 1.5});
  check("given", GivenRouting<2>{});
  check_layer_gradient("drops and losses", balanced_layer(), {.drops = true, .mask = true});
}

TEST_CASE("a loss over sequences is the mean of what each has alone")
{
  auto const router = SoftmaxTopK<2>{};
  auto const all    = erase(
      Layer{
          router, Dropless{}, SerialDispatcher{}, Ffn<SwiGlu>{}, MiniMindSequenceLoss{.coeff = 3}},
      {.tokens = 12, .sequences = 3});
  auto const one = erase(
      Layer{router, Dropless{}, SerialDispatcher{}, Ffn<SwiGlu>{}, MiniMindBatchLoss{.coeff = 3}},
      {.tokens = 4});
  auto const batch_wide = erase(
      Layer{router, Dropless{}, SerialDispatcher{}, Ffn<SwiGlu>{}, MiniMindBatchLoss{.coeff = 3}},
      {.tokens = 12});
  LayerBatch batch = random_batch(*all, 8);
  batch.dy.assign(batch.dy.size(), 0.0);
  copy_parameters(*all, *one);
  copy_parameters(*all, *batch_wide);
  auto const together = gradients(*all, batch);
  auto const D        = static_cast<std::size_t>(all->shape.hidden);
  std::vector<std::pair<double, Numbers>> loss, gate, dx;
  for (std::size_t s = 0; s < 3; ++s) {
    LayerBatch alone;
    alone.x  = rows_of(batch.x, D, {4 * s, 4 * s + 1, 4 * s + 2, 4 * s + 3});
    alone.dy = Numbers(4 * D, 0.0);
    auto g   = gradients(*one, alone);
    loss.push_back({1.0 / 3, g.out.losses});
    gate.push_back({1.0 / 3, g.of[0]});
    Numbers rows(12 * D, 0.0);
    std::copy(g.dx.begin(), g.dx.end(), rows.begin() + static_cast<std::ptrdiff_t>(4 * s * D));
    dx.push_back({1.0 / 3, rows});
  }
  check_same(together.out.losses, combination(loss));
  check_same(together.of[0], combination(gate));
  check_same(together.dx, combination(dx));
  CHECK(std::abs(gradients(*batch_wide, batch).out.losses[0] - together.out.losses[0]) > 1e-3);
}

TEST_CASE("the loss scale multiplies the losses' gradients, and not their values")
{
  auto const layer = erase(balanced_layer());
  LayerBatch batch = random_batch(*layer, 9);
  auto const at    = [&](double scale) {
    batch.step.loss_scale = scale;
    return gradients(*layer, batch);
  };
  auto const none = at(0), once = at(1), scaled = at(1024);
  CHECK(once.out.losses == scaled.out.losses);
  CHECK(none.out.losses == once.out.losses);
  check_same(combination({{1, scaled.of[0]}, {-1, none.of[0]}}),
             combination({{1024, once.of[0]}, {-1024, none.of[0]}}));
  check_same(combination({{1, scaled.dx}, {-1, none.dx}}),
             combination({{1024, once.dx}, {-1024, none.dx}}));
  for (std::size_t i = 1; i < once.of.size(); ++i) {
    CHECK(once.of[i] == scaled.of[i]);  // the experts are not in the losses
  }
  // With dy scaled alike, as in fp16 training, everything is: by a power of two in the same bits.
  for (double& d : batch.dy) {
    d *= 1024;
  }
  auto const all = at(1024);
  CHECK(all.dx == combination({{1024, once.dx}}));
  CHECK(all.of[0] == combination({{1024, once.of[0]}}));
}

TEST_CASE("micro-batches accumulate: parameters' gradients add up, dx is each one's own")
{
  auto const layer  = erase(balanced_layer());
  LayerBatch first  = random_batch(*layer, 10);
  LayerBatch second = first;
  std::reverse(second.x.begin(), second.x.end());
  std::rotate(second.dy.begin(), second.dy.begin() + 5, second.dy.end());
  auto const a = gradients(*layer, first), b = gradients(*layer, second);

  auto const both_backward = [&](LayerBatch& one, LayerBatch& two) {
    layer->zero_gradients();
    layer->forward(one);
    layer->backward(one);
    layer->forward(two);
    layer->backward(two);
  };
  both_backward(first, second);
  CHECK(first.dx == a.dx);
  CHECK(second.dx == b.dx);
  for (std::size_t i = 0; i < a.of.size(); ++i) {
    auto const& g = layer->parameters[i].gradient;
    check_same({g.begin(), g.end()}, combination({{1, a.of[i]}, {1, b.of[i]}}));
  }

  // The same one twice is once with twice the objective.
  LayerBatch again = first, twice = first;
  both_backward(first, again);
  std::vector<Numbers> accumulated;
  for (auto const& p : layer->parameters) {
    accumulated.emplace_back(p.gradient.begin(), p.gradient.end());
  }
  twice.step.loss_scale = 2;
  for (double& d : twice.dy) {
    d *= 2;
  }
  auto const doubled = gradients(*layer, twice);
  for (std::size_t i = 0; i < accumulated.size(); ++i) {
    check_same(accumulated[i], doubled.of[i]);
  }
}
