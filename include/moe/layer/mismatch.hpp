#pragma once
// A call of the layer with arguments that do not fit together, as one sentence.
namespace moe::detail {

// Takes part in overload resolution behind the layer's own functions: an argument of any type, by a
// conversion, so that a call that fits none of them ends in one sentence and not in a list.
struct AnyArgument {
  template <class X>
  constexpr AnyArgument(X const&)
  {
  }
};

struct LayerCalls {
  using Any = AnyArgument;

  // exec, params, x, y, saved
  template <class... Nothing>
  auto forward(Any, Any, Any, Any) const
  {
    return mismatch<Nothing...>();
  }
  template <class... Nothing>
  auto forward(Any, Any, Any, Any, Any) const
  {
    return mismatch<Nothing...>();
  }
  template <class... Nothing>
  auto evaluate(Any, Any, Any, Any) const
  {
    return mismatch<Nothing...>();
  }
  // exec, params, saved, x, dy, grads, dx, d_given_weight
  template <class... Nothing>
  auto backward(Any, Any, Any, Any, Any, Any, Any) const
  {
    return mismatch<Nothing...>();
  }
  template <class... Nothing>
  auto backward(Any, Any, Any, Any, Any, Any, Any, Any) const
  {
    return mismatch<Nothing...>();
  }

 private:
  template <class... Nothing>
  static int mismatch()
  {
    static_assert(sizeof...(Nothing) > 0,
                  "moe::Layer: an argument of forward, backward or evaluate is of another space or "
                  "element type than the others: y and dx are View<T, 2, ExecT>, x and dy View<T "
                  "const, 2, ExecT>, params and saved made for the same T and exec; a Tensor gives "
                  "its view() and const_view()");
    return 0;
  }
};

}  // namespace moe::detail
