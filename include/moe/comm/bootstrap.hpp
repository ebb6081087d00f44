#pragma once
// How processes find each other: who they are (bootstrap_env.hpp), and a few bytes from rank 0 to
// all of them through a file that they share, or, under torchrun, over TCP: an ncclUniqueId, say.
//
//   moe::bootstrap::World const world = moe::bootstrap::from_env();
//   if (world.rank == 0) { ncclGetUniqueId(&id); }
//   auto const file = moe::bootstrap::share(world, std::as_writable_bytes(std::span(&id, 1)));
//   ncclCommInitRank(&comm, world.size, id, world.rank);
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <span>
#include <string>
#include <thread>

#include <moe/comm/bootstrap_env.hpp>
#include <moe/comm/bootstrap_file.hpp>
#include <moe/comm/bootstrap_tcp.hpp>
#include <moe/comm/communication_error.hpp>

namespace moe::bootstrap {

struct ShareOptions {
  std::string file = {};  // in place of world.file
  // Tells several exchanges of one start apart.
  std::string tag = {};
  // No rank waits longer for rank 0. Network file systems may show a new file a minute late.
  std::chrono::milliseconds deadline = std::chrono::minutes(5);
};

// Rank 0's bytes in every rank's `blob`; of the same size on all. Every rank calls it. A file that
// an earlier start left behind, that is damaged or another's is waited past; when the deadline has
// passed, a TimeoutError says what was found. A world of one needs neither file nor port.
// By file where one is named, else at torchrun's MASTER_PORT + 1; over TCP rank 0 waits until all
// have its bytes.
[[nodiscard]] inline SharedFile share(World const& world,
                                      std::span<std::byte> blob,
                                      ShareOptions const& options = {})
{
  using std::chrono::milliseconds;
  using std::chrono::steady_clock;
  using namespace detail;
  Check const check{share_name, world.rank};
  check.at_least("world size", world.size, 1);
  check.at_least("rank", world.rank, 0);
  check.at_most("rank", world.rank, "world size - 1", world.size - 1);
  check.at_least("deadline in ms", options.deadline.count(), 1);
  check.at_most("deadline in ms",
                options.deadline.count(),
                "a year",
                milliseconds(std::chrono::hours(24 * 365)).count());
  if (world.size == 1) { return {}; }
  std::string const& path = options.file.empty() ? world.file : options.file;
  bool const by_file      = !path.empty();
  if (!by_file && world.master_addr.empty()) {
    check.fail<ValueError>(
        "MOE_BOOTSTRAP_FILE", "not set", "a path that all ranks see, or options.file one");
  }
  // An earlier start's file could not be told from this one's; who answers at a port is alive.
  if (by_file && world.run_id.empty()) {
    check.fail<ValueError>("MOE_RUN_ID",
                           "not set, nor is an id of the launcher's own",
                           "the same on every rank and another for every start");
  }
  std::string const id =
      options.tag.empty() ? world.run_id : joined({world.run_id, " / ", options.tag});
  int const port = by_file ? 0 : world.master_port + 1;
  if (!by_file) {
    check.at_least("master port", world.master_port, 1);
    check.at_most("master port", world.master_port, "the last but one", 65534);
  }
  if (world.rank == 0) {
    if (by_file) { return write_file(path, file_image(world.size, id, blob)); }
    serve(world.size, port, id, blob, options.deadline);
    return {};
  }
  std::string const where = by_file ? joined({"file ", path})
                                    : joined({"address ", world.master_addr, ":", text_of(port)});

  auto const end = steady_clock::now() + options.deadline;
  milliseconds pause(1);
  for (;;) {
    std::string const wrong =
        by_file ? try_file(world, path, id, blob) : try_server(world, port, id, blob, end);
    if (wrong.empty()) { return {}; }
    auto const now = steady_clock::now();
    if (now >= end) {
      throw TimeoutError(share_name,
                         where,
                         joined({wrong, " after ", text_of(options.deadline.count()), " ms"}),
                         joined({"rank 0's of start \"",
                                 id,
                                 "\", of a world of ",
                                 text_of(world.size),
                                 ", with ",
                                 text_of(blob.size()),
                                 " shared bytes, within the deadline; seen by rank ",
                                 text_of(world.rank)}),
                         {0},
                         0);
    }
    std::this_thread::sleep_for(
        std::min<steady_clock::duration>(pause, std::max(end - now, steady_clock::duration{1})));
    pause = std::min(2 * pause, milliseconds(100));
  }
}

}  // namespace moe::bootstrap
