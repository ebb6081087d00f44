#pragma once
// The window of a world of one: its own memory; there is no flag to wait for.
#include <moe/comm/window.hpp>
#include <moe/core/tensor.hpp>
#include <moe/exec/host.hpp>

namespace moe::detail {

// made(exec, bytes, options); that of Cuda is in cuda/window.cuh.
template <class ExecT>
class SelfWindow;

template <class ExecT>
concept HasSelfWindow = requires(ExecT const exec, WindowOptions const options) {
  { SelfWindow<ExecT>::made(exec, std::size_t{}, options) } -> std::same_as<Window<ExecT>>;
};

template <>
class SelfWindow<Host> final : public WindowModel<Host> {
 public:
  [[nodiscard]] static Window<Host> made(Host const& exec,
                                         std::size_t bytes,
                                         WindowOptions const& options)
  {
    check_window({"moe::SelfCommunicator::window"}, bytes, options);
    return Window<Host>(std::make_unique<SelfWindow>(exec, bytes, options));
  }
  SelfWindow(Host const& exec, std::size_t n, WindowOptions const& options) : memory_(exec, n)
  {
    exec.zero(memory_.data(), n);
    local       = static_cast<std::byte*>(memory_.data());
    bytes       = n;
    channels    = options.channels;
    view.memory = &local;
    view.status = &status_;
  }

  void signal(Host const&, int) override {}
  void wait(Host const&, int) override {}
  void check() override {}

 private:
  Memory<Host> memory_;
  std::uint32_t status_ = 0;
};

}  // namespace moe::detail
