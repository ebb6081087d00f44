#pragma once
// Rows to their experts and home again, chunk by chunk.
#include <moe/dispatch/dispatcher.hpp>
#include <moe/dispatch/overlap.hpp>
#include <moe/dispatch/transport.hpp>

namespace moe::detail {

template <class TripT, class InputT, class TokensT, class ArrivedT, class OutT, class HomeT>
struct RoundTrip {
  TripT const& trip;
  InputT const& in;
  TokensT tokens;     // (T, D) that go
  ArrivedT& arrived;  // their rows at the experts
  OutT const& out;    // (R, D) what experts make of them
  HomeT& home;        // that again, at the tokens
  Leg leg;
  int chunks;
};
template <class TripT, class InputT, class TokensT, class ArrivedT, class OutT, class HomeT>
RoundTrip(TripT const&, InputT const&, TokensT, ArrivedT&, OutT const&, HomeT&, Leg, int)
    -> RoundTrip<TripT, InputT, TokensT, ArrivedT, OutT, HomeT>;

// work(c) is the experts' on chunk c. Of several chunks, when it was done.
template <class ExecT, class CommT, class TransportT, class RoundTripT, class Work>
auto go_and_return(ExecT const& exec,
                   CommT const& comm,
                   TransportT const& transport,
                   RoundTripT const& way,
                   Work const& work)
{
  auto buffers = transport.make_buffers(exec, way.trip, way.tokens.extent(1), way.leg);
  Overlap<ExecT> overlap(exec, way.chunks, pack_sends<TransportT>);
  return overlap.run(ChunkSteps{
      [&](ExecT const& on, int c) {
        auto const phase = on.phase(Phase::dispatch);
        transport.pack(on, way.trip, way.in, way.tokens, c, buffers);
      },
      [&](ExecT const& on, int c) { transport.send(on, comm, way.trip, c, buffers, way.arrived); },
      work,
      [&](ExecT const& on, int c) {
        auto const phase = on.phase(Phase::dispatch);
        transport.pack_back(on, way.trip, way.in, way.out, c, way.leg, buffers);
      },
      [&](ExecT const& on, int c) {
        transport.send_back(on, comm, way.trip, c, buffers, way.home);
      }});
}

}  // namespace moe::detail
