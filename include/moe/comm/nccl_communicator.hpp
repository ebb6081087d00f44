#pragma once
// Ranks that talk through NCCL. Its calls are a parameter: nccl.cuh has the real ones and names the
// communicators, NcclCommunicator and NcclCommunicatorRef.
#include <moe/comm/nccl_collectives.hpp>

namespace moe {
// Makes a communicator of NCCL's and ends it with its last copy: finalized and destroyed, or
// aborted after a failure and where an exception unwinds; neither throws, both end within the
// deadlines.
template <NcclApi Api>
class BasicNcclCommunicator : public detail::NcclCollectives<BasicNcclCommunicator<Api>, Api> {
  using Base = detail::NcclCollectives<BasicNcclCommunicator<Api>, Api>;
  friend Base;
  using Base::Base;

 public:
  using UniqueId = typename Api::UniqueId;

  // On one rank; the program brings it to the others.
  [[nodiscard]] static UniqueId make_id()
  {
    typename Base::Link link(nullptr, {}, false);
    UniqueId id{};
    link.accept("moe::NcclCommunicator::make_id", "ncclGetUniqueId", Api::get_unique_id(&id));
    return id;
  }

  // By all ranks, with the same id and size. In a world of one the id may be any.
  BasicNcclCommunicator(UniqueId const& id, int rank, int size, NcclOptions const& options = {})
      : Base{made(id, rank, size, options)}
  {
  }

 private:
  static std::shared_ptr<typename Base::Link> made(UniqueId const& id,
                                                   int rank,
                                                   int size,
                                                   NcclOptions const& options)
  {
    char const* const operation = "moe::NcclCommunicator";
    Check const check{operation};
    check.at_least("size", size, 1);
    check.at_least("rank", rank, 0);
    check.at_most("rank", rank, "size - 1", size - 1);
    using Link = typename Base::Link;
    auto const link =
        std::make_shared<Link>(std::make_shared<typename Link::Slot>(), options, true);
    link->place = {rank, size};
    if (size == 1) { return link; }
    int version = 0;
    link->accept(operation, "ncclGetVersion", Api::version(&version));
    check.at_least("version of the NCCL library that is loaded", version, Api::header_version());
    link->settle(
        operation, "ncclCommInitRankConfig", Api::init_rank(&link->slot().comm, size, id, rank));
    return link;
  }
};

// Works on the caller's communicator, which must outlive it and is never aborted or destroyed here:
// after a failure the caller aborts it, which also frees the stream of work that waits for a peer.
// On one whose configuration is `blocking` only wait() has a deadline.
template <NcclApi Api>
class BasicNcclCommunicatorRef
    : public detail::NcclCollectives<BasicNcclCommunicatorRef<Api>, Api> {
  using Base = detail::NcclCollectives<BasicNcclCommunicatorRef<Api>, Api>;
  friend Base;
  using Base::Base;

 public:
  explicit BasicNcclCommunicatorRef(typename Api::Comm comm, NcclOptions const& options = {})
      : Base{made(comm, options)}
  {
  }

 private:
  static std::shared_ptr<typename Base::Link> made(typename Api::Comm comm,
                                                   NcclOptions const& options)
  {
    char const* const operation = "moe::NcclCommunicatorRef";
    if (comm == typename Api::Comm{}) {
      throw ValueError(operation, "comm", "null", "a communicator of NCCL's");
    }
    using Link      = typename Base::Link;
    auto const slot = std::make_shared<typename Link::Slot>();
    slot->comm      = comm;
    auto const link = std::make_shared<Link>(slot, options, false);
    link->place     = link->place_in(slot, operation);
    return link;
  }
};

}  // namespace moe
