#pragma once
// Contract: the calls of NCCL that a communicator makes. The real ones are in nccl.cuh; a test has
// its own, in which any of them fails.
#include <concepts>
#include <cstddef>
#include <type_traits>

#include <moe/comm/communicator.hpp>

namespace moe {

enum class NcclType { int8, uint8, int32, uint32, int64, uint64, half, bfloat16, float32, float64 };

// What NCCL can add up: it has no integers of 16 bits.
template <class T>
concept NcclSumElement =
    SumElement<T> && (Element<T> || sizeof(T) == 1 || sizeof(T) == 4 || sizeof(T) == 8);

template <NcclSumElement T>
constexpr NcclType nccl_type()
{
  if constexpr (std::same_as<T, Half>) {
    return NcclType::half;
  } else if constexpr (std::same_as<T, BFloat16>) {
    return NcclType::bfloat16;
  } else if constexpr (std::is_floating_point_v<T>) {
    return sizeof(T) == 4 ? NcclType::float32 : NcclType::float64;
  } else if constexpr (sizeof(T) == 1) {
    return std::is_signed_v<T> ? NcclType::int8 : NcclType::uint8;
  } else if constexpr (sizeof(T) == 4) {
    return std::is_signed_v<T> ? NcclType::int32 : NcclType::uint32;
  } else {
    return std::is_signed_v<T> ? NcclType::int64 : NcclType::uint64;
  }
}

// Named as NCCL's functions and with their arguments. No call waits: one that has work left returns
// in_progress, and async_error tells when it is done. A null handle is Comm{}.
template <class A>
concept NcclApi = requires(typename A::Comm comm,
                           typename A::Comm* new_comm,
                           typename A::UniqueId id,
                           typename A::Result result,
                           typename A::Stream stream,
                           void const* from,
                           void* to,
                           std::size_t count,
                           NcclType type,
                           int number) {
  requires std::equality_comparable<typename A::Comm>;
  requires std::equality_comparable<typename A::Result>;
  { A::success } -> std::convertible_to<typename A::Result>;
  { A::in_progress } -> std::convertible_to<typename A::Result>;
  { A::text(result) } -> std::convertible_to<char const*>;
  { A::last_error(comm) } -> std::convertible_to<char const*>;  // may be null
  // As NCCL counts them, 2.28.9 = 22809: of the header and of the library that is loaded.
  { A::header_version() } -> std::convertible_to<int>;
  { A::version(&number) } -> std::same_as<typename A::Result>;

  { A::get_unique_id(&id) } -> std::same_as<typename A::Result>;
  // These two may write to *new_comm until they are done, init_rank's result being there at once.
  { A::init_rank(new_comm, number, id, number) } -> std::same_as<typename A::Result>;
  { A::split(comm, number, number, new_comm) } -> std::same_as<typename A::Result>;
  { A::async_error(comm, &result) } -> std::same_as<typename A::Result>;
  { A::user_rank(comm, &number) } -> std::same_as<typename A::Result>;
  { A::count(comm, &number) } -> std::same_as<typename A::Result>;
  { A::finalize(comm) } -> std::same_as<typename A::Result>;
  { A::destroy(comm) } -> std::same_as<typename A::Result>;
  { A::abort(comm) } -> std::same_as<typename A::Result>;

  { A::all_reduce_sum(from, to, count, type, comm, stream) } -> std::same_as<typename A::Result>;
  { A::all_gather(from, to, count, type, comm, stream) } -> std::same_as<typename A::Result>;
  {
    A::reduce_scatter_sum(from, to, count, type, comm, stream)
  } -> std::same_as<typename A::Result>;
  { A::send(from, count, type, number, comm, stream) } -> std::same_as<typename A::Result>;
  { A::recv(to, count, type, number, comm, stream) } -> std::same_as<typename A::Result>;
  { A::group_start() } -> std::same_as<typename A::Result>;
  { A::group_end() } -> std::same_as<typename A::Result>;
};

// The space whose stream an Api works on.
template <class A, class ExecT>
concept NcclApiFor = NcclApi<A> && requires(ExecT const exec, char const* operation) {
  { A::stream_of(exec) } -> std::same_as<typename A::Stream>;
  // Throws where the host may not wait for the stream, as in a graph's capture.
  A::refuse_to_wait(exec, operation);
  // Whether all work of the stream is done; throws when some of it failed.
  { A::stream_done(exec) } -> std::convertible_to<bool>;
};

// One that has windows of a communicator CommT; options.deadline is not 0.
template <class A, class CommT, class ExecT>
concept NcclApiWithWindows = requires(
    CommT const& comm, ExecT const exec, std::size_t bytes, WindowOptions const options) {
  { A::window(comm, exec, bytes, options) } -> std::same_as<Window<ExecT>>;
};

}  // namespace moe
