// Every bad input is refused with a typed error that names field, value and limit, before any work:
// outputs and saved state stay as they were. One list, and so a long file.
#include <doctest/doctest.h>

#include "support/refusals.hpp"

using moe::AliasError, moe::Host, moe::Id, moe::index_t, moe::OverflowError, moe::ShapeError,
    moe::StateError, moe::ValueError, moe::View;
using moe::test::GateFfnSizes, moe::test::run_pass, moe::test::same_bits;
using namespace moe::test::refusal;

namespace {

// Sizes and numbers of policies, refused before anything is made.
void add_sizes(Table& table, World& w)
{
  auto const params = [&](auto const& layer, auto const& s) {
    return [&w, layer, s] { (void)layer.template make_params<float>(w.exec, s); };
  };
  auto const of = [](index_t hidden, index_t experts, index_t ffn) {
    return GateFfnSizes{.hidden = hidden, .experts = experts, .expert = {.ffn = ffn}};
  };
  auto const v = [&](char const* name, auto const& s, std::vector<std::string> parts) {
    table.add<ValueError>(name, std::move(parts), params(w.layer, s));
  };
  v("no experts", of(8, 0, 6), {"experts is 0", "at least 1"});
  v("fewer experts than none", of(8, -3, 6), {"experts is -3", "at least 1"});
  v("no hidden", of(0, 4, 6), {"hidden is 0", "at least 1"});
  v("negative hidden", of(-1, 4, 6), {"hidden is -1", "at least 1"});
  v("no ffn", of(8, 4, 0), {"ffn is 0", "at least 1"});
  v("negative ffn", of(8, 4, -6), {"ffn is -6", "at least 1"});
  v("top_k above experts", of(8, 1, 6), {"top_k is 2", "at most experts (1)"});
  v("more experts than ids", of(8, 65536, 6), {"experts is 65536", "65535"});
  index_t const many = index_t{1} << 30;
  auto const o       = [&](char const* name, auto const& s, std::vector<std::string> parts) {
    table.add<OverflowError>(name, std::move(parts), params(w.layer, s));
  };
  o("a parameter past 2^63", of(many << 5, 4, many), {"elements", "below 2^63"});
  o("parameters past 2^63 together", of(many, 4, 993211187), {"elements", "below 2^63"});
  o("bytes past 2^63", of(many, 4, many >> 2), {"bytes", "below 2^63"});

  auto const p = [&](char const* name, auto const& layer, auto const& s, auto... parts) {
    table.add<ValueError>(name, {parts...}, params(layer, s));
  };
  auto const with_gate = [](auto gate) {
    return moe::Layer{Router{}, moe::Dropless{}, moe::BatchedDispatcher{}, expert, gate};
  };
  auto const low = with_gate(moe::LowRankGate{});
  p("rank 0", low, decltype(low)::Sizes{D, E, {6}, {.rank = 0}, {}}, "rank is 0", "at least 1");
  auto const cosine = with_gate(moe::CosineGate{});
  p("projection -1",
    cosine,
    decltype(cosine)::Sizes{D, E, {6}, {.projection = -1}, {}},
    "projection is -1",
    "at least 1");
  auto const shared = with_gate(moe::SharedExpert{moe::Ffn<moe::SwiGlu>{}});
  p("shared expert without ffn",
    shared,
    decltype(shared)::Sizes{D, E, {6}, {}, {{0}}},
    "ffn is 0",
    "at least 1");

  auto const routed = [](auto router) {
    return moe::Layer{router, moe::Dropless{}, moe::BatchedDispatcher{}, expert};
  };
  using Groups     = moe::group_limited<moe::top2_sum>;
  auto const group = [&](int groups, int kept) {
    return routed(moe::SigmoidTopK<4, moe::renormalized, Groups>{.group = {groups, kept}});
  };
  GateFfnSizes const twelve = of(8, 12, 6);
  p("no groups", group(0, 1), twelve, "group.groups is 0", "at least 1");
  p("groups that do not divide", group(5, 1), twelve, "group.groups is 5", "divisor of experts");
  p("more groups than there can be", group(65, 1), of(8, 65, 6), "groups is 65", "(64)");
  p("no group kept", group(3, 0), twelve, "group.kept is 0", "at least 1");
  p("more kept than groups", group(3, 4), twelve, "group.kept is 4", "at most group.groups (3)");
  p("too few experts in kept groups", group(4, 1), twelve, "top_k is 4", "(3)");
  auto const noisy = [&](double n) { return routed(moe::NoisyTopK<2>{.min_noise = n}); };
  p("noise NaN", noisy(not_a_number), sizes, "min_noise is nan", "finite");
  p("noise negative", noisy(-1), sizes, "min_noise is -1", "at least 0");
  auto const choice = [&](double f) { return routed(moe::ExpertChoice{.factor = f}); };
  p("expert choice of factor 0", choice(0), sizes, "factor is 0", "above 0");
  p("expert choice of factor inf", choice(inf), sizes, "factor is inf", "finite");
}

struct Elsewhere {};  // a space of which there is no memory here

// Numbers of policies that only a batch meets, and batches of impossible size.
void add_batches(Table& table, World& w)
{
  auto const capacity =
      [&](char const* name, moe::CeilCapacity rule, std::string a, std::string b) {
        table.add<ValueError>(name, {a, b}, [&w, rule] { w.forward_with(layer_of({}, rule)); });
      };
  capacity("factor NaN", {.factor = not_a_number}, "capacity factor is nan", "finite");
  capacity("factor inf", {.factor = inf}, "capacity factor is inf", "finite");
  capacity("factor negative", {.factor = -1}, "capacity factor is -1", "at least 0");
  capacity("alignment 0", {.alignment = 0}, "capacity alignment is 0", "at least 1");
  capacity("alignment beyond ids", {.alignment = index_t{1} << 40}, "alignment", "2147483647");
  capacity("minimum negative", {.minimum = -1}, "capacity minimum is -1", "at least 0");

  auto const router = [&](char const* name, Router r, std::string a, std::string b) {
    table.add<ValueError>(name, {a, b}, [&w, r] { w.forward_with(layer_of(r)); });
  };
  router("scale NaN", {.scale = not_a_number}, "scale is nan", "finite");
  router("epsilon negative", {.epsilon = -1}, "epsilon is -1", "at least 0");
  router("bias null", {.bias = View<float const, 1, Host>(nullptr, E)}, "bias is null", "pointer");
  table.add<ShapeError>("bias of another length", {"bias is 5", "experts (4)"}, [&w] {
    w.forward_with(layer_of({.bias = View<float const, 1, Host>(w.b.x.data(), 5)}));
  });
  table.add<ValueError>("bias in another space", {"bias is memory of another space"}, [&w] {
    using Biased = moe::SoftmaxTopK<2, moe::renormalized, moe::ungrouped, Elsewhere>;
    View<float const, 1, Elsewhere> const bias(w.b.x.data(), E);
    moe::Layer const other{
        Biased{.bias = bias}, moe::Dropless{}, moe::SerialDispatcher{}, moe::Ffn<moe::Relu>{}};
    auto const p = other.make_params<float>(w.exec, {D, E, {6}, {}, {}});
    other.evaluate(w.exec, p, w.in(), w.y_view());
  });
  for (double const coeff : {-1.0, not_a_number, inf}) {
    table.add<ValueError>("loss coefficient " + std::to_string(coeff),
                          {"coeff is " + std::to_string(coeff), "finite and at least 0"},
                          [&w, coeff] { w.forward_with(layer_of({}, {}, coeff)); });
  }

  auto const made = [&w](index_t tokens, index_t sequences, double factor = 1) {
    return [=, &w] {
      (void)layer_of({}, {.factor = factor}).make_saved<float>(w.exec, sizes, tokens, sequences);
    };
  };
  index_t const large = index_t{1} << 28;
  table.add<ValueError>("negative tokens", {"tokens is -1", "at least 0"}, made(-1, 1));
  table.add<ValueError>("no sequences", {"sequences is 0", "at least 1"}, made(12, 0));
  table.add<ShapeError>(
      "sequences of unequal length", {"tokens modulo sequences is 1", "(0)"}, made(13, 3));
  table.add<OverflowError>("tokens beyond ids", {"tokens", "2147483647"}, made(large << 12, 1));
  table.add<OverflowError>("assignments beyond ids",
                           {"tokens x top_k is 2147483648", "2147483647"},
                           made(large << 2, 1));
  table.add<OverflowError>("slots beyond ids",
                           {"experts x capacity is 2147483648", "2147483647"},
                           made(large, 1, 16384));
  table.add<OverflowError>("loads beyond ids",
                           {"sequences x experts is 2147483648", "2147483647"},
                           made(large << 1, large << 1, 0.1));
}

// What forward and evaluate are given.
void add_forward(Table& table, World& w)
{
  using Change     = std::function<void(Input&)>;
  auto const input = [&]<class ErrorT>(
                         ErrorT*, char const* name, std::string a, std::string b, Change c) {
    table.add<ErrorT>(std::string("forward: ") + name, {"moe::Layer::forward", a, b}, [&w, c] {
      auto in = w.in();
      c(in);
      w.forward(in, w.y_view());
    });
    table.add<ErrorT>(std::string("evaluate: ") + name, {"moe::Layer::evaluate", a, b}, [&w, c] {
      auto in = w.in();
      c(in);
      w.layer.evaluate(w.exec, w.params(), in, w.y_view());
    });
  };
  ShapeError* const shape = nullptr;
  ValueError* const value = nullptr;
  float const* const x    = w.b.x.data();
  input(
      shape, "x too narrow", "x columns is 7", "hidden (8)", [=](Input& i) { i.x = at(x, T, 7); });
  input(value, "x null", "x is null", "96 elements", [](Input& i) { i.x = at(nullptr, T, D); });
  input(value, "x misaligned", "x is misaligned by 1", "aligned to 4 bytes", [=](Input& i) {
    i.x = at(reinterpret_cast<float const*>(reinterpret_cast<char const*>(x) + 1), T, D);
  });
  input(value, "x of negative rows", "tokens is -12", "at least 0", [=](Input& i) {
    i.x = at(x, -T, D);
  });
  input(shape, "sequences 5", "modulo sequences is 2", "(0)", [](Input& i) { i.sequences = 5; });
  input(value, "sequences -1", "sequences is -1", "1", [](Input& i) { i.sequences = -1; });
  input(shape, "mask too short", "mask is 11", "tokens (12)", [](Input& i) {
    i.mask = View<std::uint8_t const, 1, Host>(i.mask.data_handle(), T - 1);
  });
  input(value, "mask null", "mask is null", "12 elements", [](Input& i) {
    i.mask = View<std::uint8_t const, 1, Host>(nullptr, T);
  });
  input(shape, "two steps", "step is 2", "one state (1)", [&w](Input& i) {
    i.step = View<moe::StepState const, 1, Host>(&w.step, 2);
  });
  input(value, "step null", "step is null", "1 elements", [](Input& i) {
    i.step = View<moe::StepState const, 1, Host>(nullptr, 1);
  });
  input(value, "first_token -1", "first_token is -1", "0", [](Input& i) { i.first_token = -1; });
  input(value, "first_token at the end", "first_token", "2^63 - 1 - tokens", [](Input& i) {
    i.first_token = std::numeric_limits<index_t>::max() - 5;
  });
  input(shape, "weights given to a router", "given_weight is 24", "(0)", [=](Input& i) {
    i.given_weight = at(x, T, 2);
  });

  auto const out = [&]<class ErrorT>(ErrorT*,
                                     char const* name,
                                     std::string a,
                                     std::string b,
                                     View<float, 2, Host> y) {
    table.add<ErrorT>(std::string("forward: ") + name, {a, b}, [&w, y] { w.forward(w.in(), y); });
    table.add<ErrorT>(std::string("evaluate: ") + name, {a, b}, [&w, y] {
      w.layer.evaluate(w.exec, w.params(), w.in(), y);
    });
    table.add<ErrorT>(std::string("forward of its own state: ") + name, {a, b}, [&w, y] {
      (void)w.layer.forward(w.exec, w.params(), w.in(), y);
    });
  };
  AliasError* const alias = nullptr;
  float const* const y    = w.y.data();
  out(shape, "y too short", "y rows is 11", "tokens (12)", at(y, T - 1, D));
  out(shape, "y too wide", "y columns is 9", "hidden (8)", at(y, T, D + 1));
  out(value, "y null", "y is null", "96 elements", at(nullptr, T, D));
  out(alias, "y is x", "y is overlapping x", "memory of its own", at(x, T, D));
  out(alias, "y over the end of x", "y is overlapping x", "own", at(x + T * D - 1, T, D));
  out(alias,
      "y over the gate",
      "y is overlapping gate.w",
      "own",
      at(w.params().gate.w.data_handle(), T, D));
  out(alias,
      "y over w_out",
      "y is overlapping w_out",
      "own",
      at(w.params().experts.w_out.data_handle(), T, D));

  auto const params = [&]<class ErrorT>(
                          ErrorT*,
                          char const* name,
                          std::string a,
                          std::string b,
                          std::function<void(Layer::Params<float const, Host>&)> change) {
    table.add<ErrorT>(name, {a, b}, [&w, change] {
      auto p = w.params();
      change(p);
      w.layer.forward(w.exec, p, w.in(), w.y_view(), w.saved);
    });
  };
  using Params = Layer::Params<float const, Host>;
  params(value, "w_in null", "w_in is null", "384 elements", [](Params& p) {
    p.experts.w_in = {nullptr, p.experts.w_in.extents()};
  });
  params(shape, "w_in of another ffn", "w_in extent 1 is 10", "(12)", [](Params& p) {
    p.experts.w_in = {p.experts.w_in.data_handle(), {{E, 10, D}}};
  });
  params(shape, "gate of another number of experts", "gate.w extent 0 is 3", "(4)", [](Params& p) {
    p.gate.w = {p.gate.w.data_handle(), {{3, D}}};
  });
  params(value, "w_out of no experts", "experts is 0", "at least 1", [](Params& p) {
    p.experts.w_out = {p.experts.w_out.data_handle(), {{0, D, 6}}};
  });

  auto const state =
      [&](char const* name, std::string a, std::string b, std::function<Saved()> make) {
        table.add<StateError>(name, {a, b}, [&w, make] {
          Saved other = make();
          w.forward_into(other);
        });
      };
  auto const made = [&w](GateFfnSizes s, index_t tokens, index_t sequences) {
    return [=, &w] { return w.layer.make_saved<float>(w.exec, s, tokens, sequences); };
  };
  state("state of other tokens", "saved tokens is 9", "12", made(sizes, 9, 3));
  state("state of other sequences", "saved sequences is 4", "3", made(sizes, T, 4));
  state("state of another hidden", "saved hidden is 7", "8", made({7, E, {6}, {}, {}}, T, 3));
  state("state of other experts", "saved experts is 5", "4", made({D, 5, {6}, {}, {}}, T, 3));
  state("state of another ffn", "saved sizes", "parameters", made({D, E, {7}, {}, {}}, T, 3));
  state("no state", "saved tokens is 0", "12", [] { return Saved{}; });
  state("state of another capacity", "saved slots is 16", "32", [&w] {
    return layer_of({}, {.factor = 0.625}).make_saved<float>(w.exec, sizes, T, 3);
  });
  table.add<StateError>("state moved from", {"saved plan's offsets is 0", "5"}, [&w] {
    Saved from = w.layer.make_saved<float>(w.exec, sizes, T, 3);
    Saved to   = std::move(from);
    w.forward_into(from);  // NOLINT: that is the case
  });
}

void add_backward(Table& table, World& w)
{
  auto const add =
      [&]<class ErrorT>(
          ErrorT*, char const* name, std::string a, std::string b, std::function<void()> f) {
        table.add<ErrorT>(std::string("backward: ") + name, {"moe::Layer::backward", a, b}, f);
      };
  ShapeError* const shape = nullptr;
  ValueError* const value = nullptr;
  AliasError* const alias = nullptr;
  StateError* const state = nullptr;
  auto const dy           = [&w](View<float, 2, Host> v) {
    return [&w, v] { w.backward(v, w.grad_views(), w.dx_view()); };
  };
  auto const dx = [&w](View<float, 2, Host> v) {
    return [&w, v] { w.backward(w.b.dy_view(), w.grad_views(), v); };
  };
  add(shape, "dy too short", "dy rows is 11", "tokens (12)", dy(at(w.b.dy.data(), T - 1, D)));
  add(shape, "dy too narrow", "dy columns is 7", "hidden (8)", dy(at(w.b.dy.data(), T, D - 1)));
  add(value, "dy null", "dy is null", "96 elements", dy(at(nullptr, T, D)));
  add(shape, "dx too long", "dx rows is 13", "tokens (12)", dx(at(w.dx.data(), T + 1, D)));
  add(value, "dx null", "dx is null", "96 elements", dx(at(nullptr, T, D)));
  add(alias, "dx is x", "dx is overlapping x", "own", dx(at(w.b.x.data(), T, D)));
  add(alias, "dx is dy", "dx is overlapping dy", "own", dx(at(w.b.dy.data(), T, D)));
  add(alias, "dx over dy", "dx is overlapping dy", "own", dx(at(w.b.dy.data() + 4, T, D)));
  add(alias,
      "dx over w_in",
      "dx is overlapping w_in",
      "own",
      dx(at(w.writable_params().experts.w_in.data_handle(), T, D)));
  add(alias,
      "dx over a gradient",
      "gradient of w_out is overlapping dx",
      "own",
      dx(at(w.grad_views().experts.w_out.data_handle(), T, D)));
  add(alias, "gradients are parameters", "gradient of gate.w is overlapping gate.w", "own", [&w] {
    w.backward(w.b.dy_view(), w.writable_params(), w.dx_view());
  });
  using Grads     = Layer::Params<float, Host>;
  auto const grad = [&w](std::function<void(Grads&)> change) {
    return [&w, change] {
      auto g = w.grad_views();
      change(g);
      w.backward(w.b.dy_view(), g, w.dx_view());
    };
  };
  add(alias,
      "a gradient over another",
      "gradient of w_out is overlapping gradient of w_in",
      "own",
      grad([](Grads& g) {
        g.experts.w_out = {g.experts.w_in.data_handle() + 1, g.experts.w_out.extents()};
      }));
  add(alias,
      "a gradient over dy",
      "gradient of gate.w is overlapping dy",
      "own",
      grad([&w](Grads& g) { g.gate.w = {w.b.dy.data(), g.gate.w.extents()}; }));
  add(value, "a gradient null", "gradient of w_out is null", "192 elements", grad([](Grads& g) {
        g.experts.w_out = {nullptr, g.experts.w_out.extents()};
      }));
  add(shape,
      "a gradient of another shape",
      "gradient of gate.w extent 1 is 7",
      "(8)",
      grad([](Grads& g) { g.gate.w = {g.gate.w.data_handle(), {{E, D - 1}}}; }));
  auto const over = [&w](std::function<void(Grads&)> change) {
    return [&w, change] {
      auto g = w.grad_views();
      change(g);
      w.backward_overwriting(g);
    };
  };
  add(alias,
      "an overwritten gradient over dy",
      "gradient of gate.w is overlapping dy",
      "own",
      over([&w](Grads& g) { g.gate.w = {w.b.dy.data(), g.gate.w.extents()}; }));
  add(value, "an overwritten gradient null", "gradient of w_in is null", "384", over([](Grads& g) {
        g.experts.w_in = {nullptr, g.experts.w_in.extents()};
      }));
  add(shape,
      "an overwritten gradient of another shape",
      "gradient of w_out extent 2 is 5",
      "(6)",
      over([](Grads& g) { g.experts.w_out = {g.experts.w_out.data_handle(), {{E, D, 5}}}; }));
  add(state, "no forward before", "saved is not filled", "filled by forward", [&w] {
    auto const fresh = w.layer.make_saved<float>(w.exec, sizes, T, 3);
    w.layer.backward(w.exec, w.params(), fresh, w.in(), w.b.dy_view(), w.grad_views(), w.dx_view());
  });
  add(state, "state moved from", "saved plan's offsets is 0", "5", [&w] {
    std::vector<float> y(T * D);
    auto from     = w.layer.forward(w.exec, w.params(), w.in(), at(y.data(), T, D));
    auto const to = std::move(from);
    w.layer.backward(w.exec, w.params(), from, w.in(), w.b.dy_view(), w.grad_views(), w.dx_view());
  });
  add(state, "x of other tokens", "saved tokens is 12", "9", [&w] {
    auto in = w.in();
    in.x    = at(w.b.x.data(), 9, D);
    in.mask = {};
    w.layer.backward(w.exec,
                     w.params(),
                     w.saved,
                     in,
                     at(w.b.dy.data(), 9, D),
                     w.grad_views(),
                     at(w.dx.data(), 9, D));
  });
  add(value, "weights' gradient of a router", "d_given_weight is given", "GivenRouting", [&w] {
    std::vector<float> d(T * 2);
    w.layer.backward(w.exec,
                     w.params(),
                     w.saved,
                     w.in(),
                     w.b.dy_view(),
                     w.grad_views(),
                     w.dx_view(),
                     at(d.data(), T, 2));
  });
}

void add_given(Table& table, World& w, GivenWorld& g)
{
  using Change   = std::function<void(Input&)>;
  auto const add = [&]<class ErrorT>(
                       ErrorT*, char const* name, std::string a, std::string b, Change c) {
    table.add<ErrorT>(std::string("given: ") + name, {a, b}, [&w, &g, c] {
      auto in = g.in(w);
      c(in);
      (void)given_layer.forward(w.exec, GivenWorld::params(w), in, w.y_view());
    });
  };
  ShapeError* const shape = nullptr;
  ValueError* const value = nullptr;
  add(shape, "no ids", "given_expert rows is 0", "tokens (12)", [](Input& i) {
    i.given_expert = {};
  });
  add(shape, "three ids", "given_expert columns is 3", "top_k (2)", [&g](Input& i) {
    i.given_expert = View<Id const, 2, Host>(g.id.data(), T, 3);
  });
  add(shape, "one weight", "given_weight columns is 1", "top_k (2)", [&g](Input& i) {
    i.given_weight = View<float const, 2, Host>(g.weight.data(), T, 1);
  });
  add(value, "ids null", "given_expert is null", "24 elements", [](Input& i) {
    i.given_expert = View<Id const, 2, Host>(nullptr, T, 2);
  });
  add(value, "weights null", "given_weight is null", "24 elements", [](Input& i) {
    i.given_weight = View<float const, 2, Host>(nullptr, T, 2);
  });
  auto const back =
      [&]<class ErrorT>(
          ErrorT*, char const* name, std::string a, std::string b, View<float, 2, Host> d) {
        table.add<ErrorT>(std::string("given: ") + name, {a, b}, [&w, &g, d] {
          std::vector<float> y(T * D);
          auto const saved =
              given_layer.forward(w.exec, GivenWorld::params(w), g.in(w), at(y.data(), T, D));
          auto const grads = moe::test::params_at<GivenLayer, float>(w.grads.data(), given_sizes);
          given_layer.backward(
              w.exec, GivenWorld::params(w), saved, g.in(w), w.b.dy_view(), grads, w.dx_view(), d);
        });
      };
  back(shape,
       "gradient too short",
       "d_given_weight rows is 11",
       "tokens (12)",
       at(g.d_weight.data(), 11, 2));
  back(value, "gradient null", "d_given_weight is null", "24", at(nullptr, T, 2));
  back(static_cast<AliasError*>(nullptr),
       "gradient over the weights",
       "d_given_weight is overlapping given_weight",
       "own",
       at(g.weight.data(), T, 2));
}

}  // namespace

TEST_CASE("bad input is refused before any work")
{
  World w;
  GivenWorld g;
  Table table;
  add_sizes(table, w);
  add_batches(table, w);
  add_forward(table, w);
  add_backward(table, w);
  add_given(table, w, g);
#if !defined(MOE_WITH_CBLAS)
  table.add<ValueError>("a BLAS that is not there", {"products is blas", "own"}, [] {
    Host const exec{{.threads = 1, .products = moe::Products::blas}};
  });
#endif

  auto const before = w.memory();
  for (auto const& c : table.cases) {
    CAPTURE(c.name);
    auto const got = c.run(c.action);
    CAPTURE(got.what);
    CHECK(got.typed);
    CHECK((!got.field.empty() && !got.value.empty() && !got.limit.empty()));
    for (auto const& part : c.parts) {
      CAPTURE(part);
      CHECK(got.what.find(part) != std::string::npos);
    }
    CHECK(w.memory() == before);
    CHECK(w.saved.filled);
  }
  MESSAGE("bad inputs refused: ", table.cases.size());

  // The state is still that of the forward before: its backward is the one of a fresh run.
  auto const fresh = run_pass<float>(w.layer, w.exec, w.b);
  std::fill(w.grads.begin(), w.grads.end(), 0.f);
  w.backward(w.b.dy_view(), w.grad_views(), w.dx_view());
  CHECK(same_bits(w.dx, fresh.dx));
  CHECK(same_bits(w.grads, fresh.grads));
}
