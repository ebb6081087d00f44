// Every call of NCCL's fails in every way: each rank ends with the error that names the call,
// within the deadlines, repeats it, and has aborted each of its communicators once.
#include <doctest/doctest.h>

#include <optional>

#include "comm/nccl_threads.hpp"

using namespace moe;
using namespace moe::test;

namespace {

using std::chrono::milliseconds;

// Waits that a test means to end at their deadline are short; others must not, on a slow machine.
constexpr milliseconds a_while(250), a_moment(50), long_time(20000);
constexpr double a_while_in_seconds = 0.25;
constexpr char const within[]       = "must be done within the deadline (250 ms)";

NcclOptions waiting(FaultKind kind)
{
  return {.deadline       = kind == FaultKind::never_done ? a_while : long_time,
          .abort_deadline = long_time};
}

struct Point {
  NcclCall call;
  char const* name;       // of NCCL's, as the error has it
  char const* operation;  // of ours
  std::uint64_t sequence;
  int handles;             // that a rank has when the call fails
  char const* when_later;  // the name when it only goes wrong later; null: it cannot
};
char const init[] = "moe::NcclCommunicator", init_call[] = "ncclCommInitRankConfig";
Point const points[] = {
    {NcclCall::version, "ncclGetVersion", init, 0, 0, nullptr},
    {NcclCall::init_rank, init_call, init, 0, 0, init_call},
    {NcclCall::async_error, init_call, init, 0, 1, init_call},
    {NcclCall::all_reduce,
     "ncclAllReduce",
     "moe::NcclCommunicator::all_reduce_sum",
     1,
     1,
     "ncclAllReduce"},
    {NcclCall::all_gather,
     "ncclAllGather",
     "moe::NcclCommunicator::all_gather",
     2,
     1,
     "ncclAllGather"},
    {NcclCall::reduce_scatter,
     "ncclReduceScatter",
     "moe::NcclCommunicator::reduce_scatter_sum",
     3,
     1,
     "ncclReduceScatter"},
    {NcclCall::group_start, "ncclGroupStart", "moe::NcclCommunicator::all_to_all", 4, 1, nullptr},
    {NcclCall::send, "ncclSend", "moe::NcclCommunicator::all_to_all", 4, 1, "ncclGroupEnd"},
    {NcclCall::recv, "ncclRecv", "moe::NcclCommunicator::all_to_all", 4, 1, "ncclGroupEnd"},
    {NcclCall::group_end,
     "ncclGroupEnd",
     "moe::NcclCommunicator::all_to_all",
     4,
     1,
     "ncclGroupEnd"},
    {NcclCall::split, "ncclCommSplit", "moe::NcclCommunicator::split", 5, 1, "ncclCommSplit"},
    {NcclCall::user_rank,
     "ncclCommUserRank",
     "moe::NcclCommunicator::split",
     5,
     2,
     "ncclCommUserRank"},
    {NcclCall::count, "ncclCommCount", "moe::NcclCommunicator::split", 5, 2, "ncclCommCount"},
};

void all_calls(MockCommunicator const& comm)
{
  auto const exec = nccl_host();
  std::vector<float> x(2, 1), xs(4, 1), ys(4);
  comm.all_reduce_sum(exec, as_view(x));
  comm.all_gather(exec, as_view(x), as_view(ys));
  comm.reduce_scatter_sum(exec, as_view(xs), as_view(x));
  comm.all_to_all(exec, as_view(xs), as_view(ys));
  auto const group = comm.split(0, 0);
  CHECK(group.size() == comm.size());
  comm.wait(exec);
}

double seconds_since(std::chrono::steady_clock::time_point start)
{
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

struct Ended {
  RankEnd first, again;
  double seconds = 0;
};
// A world of two whose ranks make every call until one fails.
std::vector<Ended> run_all_calls(NcclOptions const& options)
{
  int const id = MockCommunicator::make_id();
  std::vector<Ended> ends(2);
  (void)on_threads(2, [&](int r) {
    auto& mine       = ends[static_cast<std::size_t>(r)];
    auto const start = std::chrono::steady_clock::now();
    std::optional<MockCommunicator> comm;
    try {
      comm.emplace(id, r, 2, options);
      all_calls(*comm);
    } catch (...) {
      mine.first   = end_of(std::current_exception());
      mine.seconds = seconds_since(start);
    }
    mine.again = mine.first;
    if (!comm) { return; }
    try {
      comm->check();
      mine.again = {};
    } catch (...) {
      mine.again = end_of(std::current_exception());
    }
    CHECK((comm->handle() == nullptr) == (mine.first.kind != RankEnd::returned));
  });
  return ends;
}

void check_ends(std::vector<Ended> const& ends, Point const& at, char const* name, char const* text)
{
  for (int r = 0; r < 2; ++r) {
    auto const& end = ends[static_cast<std::size_t>(r)];
    CAPTURE(r);
    CAPTURE(end.first.text);
    CHECK(end.first.kind == RankEnd::communication);
    CHECK(end.first.operation == at.operation);
    CHECK(end.first.sequence == at.sequence);
    CHECK(end.first.rank == r);
    CHECK(end.first.text.find(std::string(": ") + name + " (sequence ") != std::string::npos);
    CHECK(end.first.text.find(text) != std::string::npos);
    CHECK(end.again == end.first);
    CHECK(end.seconds < 10);
  }
}

// Every handle that was made has ended, by one abort.
void check_aborts(int handles)
{
  auto const n      = static_cast<std::size_t>(handles);
  auto const aborts = MockNccl::ended(&MockNccl::State::aborts, n);
  CHECK(aborts.size() == n);
  for (auto const& [comm, times] : aborts) {
    CHECK(times == 1);
  }
  CHECK(MockNccl::ended(&MockNccl::State::destroys, 0).empty());
}

}  // namespace

TEST_CASE("each call, each error, at once and later")
{
  for (auto const& at : points) {
    for (auto const kind : {FaultKind::at_once, FaultKind::later}) {
      if (kind == FaultKind::later && at.when_later == nullptr) { continue; }
      for (int result = 1; result <= 6; ++result) {
        CAPTURE(at.name);
        CAPTURE(static_cast<int>(kind));
        CAPTURE(result);
        MockNccl::reset();
        MockNccl::state().fault = {at.call, kind, result};
        bool const later        = kind == FaultKind::later;
        check_ends(run_all_calls(waiting(kind)),
                   at,
                   later ? at.when_later : at.name,
                   MockNccl::text(result));
        bool const made = later && at.call == NcclCall::init_rank;
        check_aborts(2 * (made ? 1 : at.handles));
      }
    }
  }
}

TEST_CASE("each call that is in progress for ever ends at the deadline")
{
  for (auto const& at : points) {
    if (at.when_later == nullptr) { continue; }
    CAPTURE(at.name);
    MockNccl::reset();
    MockNccl::state().fault = {at.call, FaultKind::never_done};
    auto const ends         = run_all_calls(waiting(FaultKind::never_done));
    check_ends(ends, at, at.when_later, within);
    CHECK(ends[0].seconds >= a_while_in_seconds);
    check_aborts(2 * (at.call == NcclCall::init_rank ? 1 : at.handles));
  }
}

TEST_CASE("an abort that never returns is told, and waited for no longer than its deadline")
{
  for (auto const& at : points) {
    if (at.handles == 0) { continue; }
    for (auto const kind : {FaultKind::at_once, FaultKind::never_done}) {
      if (kind == FaultKind::never_done && at.when_later == nullptr) { continue; }
      CAPTURE(at.name);
      MockNccl::reset();
      MockNccl::state().fault       = {at.call, kind, 6};
      MockNccl::state().abort_hangs = true;
      auto options                  = waiting(kind);
      options.abort_deadline        = a_moment;
      auto const ends               = run_all_calls(options);
      check_ends(ends,
                 at,
                 kind == FaultKind::never_done ? at.when_later : at.name,
                 "; ncclCommAbort has not returned either");
      check_aborts(2);  // what hangs is the first of each rank's
    }
  }
  MockNccl::reset();
}

TEST_CASE("one rank's failure is told there; the other's wait ends at the deadline")
{
  for (auto const& at : points) {
    if (at.sequence == 0 || at.sequence == 5) { continue; }
    CAPTURE(at.name);
    MockNccl::reset();
    MockNccl::state().fault = {at.call, FaultKind::at_once, 6, 1};
    auto const ends         = run_all_calls(waiting(FaultKind::never_done));
    CHECK(ends[1].first.operation == at.operation);
    CHECK(ends[1].first.text.find("remote process exited") != std::string::npos);
    CHECK(ends[1].first.text.find("[rank 1]") != std::string::npos);
    CHECK(ends[0].first.kind == RankEnd::communication);
    CHECK(ends[0].first.text.find("within the deadline") != std::string::npos);
    check_aborts(2);
  }
}

TEST_CASE("a rank that never comes ends the others' start")
{
  MockNccl::reset();
  int const id    = MockCommunicator::make_id();
  auto const ends = on_threads(2, [&](int r) {
    if (r == 0) { MockCommunicator(id, 0, 3, waiting(FaultKind::never_done)).check(); }
    if (r == 1) { MockCommunicator(id, 1, 3, waiting(FaultKind::never_done)).check(); }
  });
  for (auto const& end : ends) {
    CHECK(end.kind == RankEnd::communication);
    CHECK(end.text.find("ncclCommInitRankConfig (sequence 0) is in progress") != std::string::npos);
  }
  check_aborts(2);
}

TEST_CASE("work that does not end, or ends in an error, is told by wait")
{
  struct Case {
    bool hangs;
    NcclCall also;  // fails too
    char const* text;
  };
  for (auto const& c : {Case{true, NcclCall::none, within},
                        Case{true, NcclCall::abort, within},
                        Case{false, NcclCall::none, "the mock: kernel is lost"}}) {
    CAPTURE(c.text);
    MockNccl::reset();
    MockNccl::state().stream_hangs = c.hangs;
    MockNccl::state().stream_fails = !c.hangs;
    MockNccl::state().fault        = {c.also, FaultKind::at_once, 3};
    for (auto const& end : run_all_calls(waiting(FaultKind::never_done))) {
      CHECK(end.first.operation == "moe::NcclCommunicator::wait");
      CHECK(end.first.text.find("the stream (sequence 5)") != std::string::npos);
      CHECK(end.first.text.find(c.text) != std::string::npos);
      CHECK(end.again == end.first);
    }
    check_aborts(4);  // the worlds, and the groups in the exception's way
  }
}

TEST_CASE("an error that shows between two calls is told by the next")
{
  MockNccl::reset();
  int const id    = MockCommunicator::make_id();
  auto const ends = on_threads(2, [&](int r) {
    MockCommunicator const comm(id, r, 2, waiting(FaultKind::at_once));
    std::vector<float> x(2, 1);
    comm.all_reduce_sum(nccl_host(), as_view(x));
    if (r == 0) { return; }
    {
      std::lock_guard const lock(MockNccl::state().mutex);
      MockNccl::state().fault = {NcclCall::async_error, FaultKind::at_once, 6, 1};
    }
    comm.all_reduce_sum(nccl_host(), as_view(x));
  });
  CHECK(ends[0].text == "");
  CHECK(ends[1].operation == "moe::NcclCommunicator::all_reduce_sum");
  CHECK(ends[1].text.find("ncclCommGetAsyncError (sequence 1)") != std::string::npos);
}

TEST_CASE("a communicator's end never throws and never hangs")
{
  for (auto const call : {NcclCall::finalize, NcclCall::destroy}) {
    for (auto const kind : {FaultKind::at_once, FaultKind::later, FaultKind::never_done}) {
      for (bool const abort_hangs : {false, true}) {
        CAPTURE(static_cast<int>(call));
        CAPTURE(static_cast<int>(kind));
        CAPTURE(abort_hangs);
        MockNccl::reset();
        MockNccl::state().fault       = {call, kind, 2};
        MockNccl::state().abort_hangs = abort_hangs;
        bool const finalize           = call == NcclCall::finalize;
        auto options                  = waiting(finalize ? kind : FaultKind::at_once);
        if (abort_hangs || !finalize) { options.abort_deadline = a_moment; }
        auto const start = std::chrono::steady_clock::now();
        for (auto const& end : run_all_calls(options)) {
          CHECK(end.first.text == "");
        }
        CHECK(seconds_since(start) < 10);
        auto const aborts = MockNccl::ended(&MockNccl::State::aborts, finalize ? 4 : 0);
        CHECK(aborts.size() == (finalize ? 4 : 0));
        for (auto const& [comm, times] : aborts) {
          CHECK(times == 1);
        }
        auto const destroys = MockNccl::ended(&MockNccl::State::destroys, finalize ? 0 : 4);
        CHECK(destroys.size() == (finalize ? 0 : 4));
      }
    }
  }
  MockNccl::reset();
}

TEST_CASE("a rank that leaves by an exception aborts, so that nobody waits for it")
{
  MockNccl::reset();
  int const id    = MockCommunicator::make_id();
  auto const ends = on_threads(2, [&](int r) {
    MockCommunicator const comm(id, r, 2, waiting(FaultKind::at_once));
    throw std::runtime_error("the rank's own");
  });
  CHECK(ends[0].text == "the rank's own");
  check_aborts(2);
  CHECK(MockNccl::calls_of(NcclCall::finalize) == 0);
}

TEST_CASE("the caller's handle is not aborted after a failure")
{
  for (auto const call : {NcclCall::all_reduce, NcclCall::split}) {
    MockNccl::reset();
    int id = 0;
    CHECK(MockNccl::get_unique_id(&id) == MockNccl::success);
    auto const ends = on_threads(2, [&](int r) {
      MockNccl::Comm handle = nullptr;
      (void)MockNccl::init_rank(&handle, 2, id, r);
      for (int state = MockNccl::in_progress; state != MockNccl::success;) {
        (void)MockNccl::async_error(handle, &state);
      }
      MockCommunicatorRef const comm(handle, waiting(FaultKind::never_done));
      std::vector<float> x(2, 1);
      {
        std::lock_guard const lock(MockNccl::state().mutex);
        MockNccl::state().fault = {call, FaultKind::never_done};
      }
      if (call == NcclCall::split) { (void)comm.split(0, 0); }
      comm.all_reduce_sum(nccl_host(), as_view(x));
    });
    for (auto const& end : ends) {
      CHECK(end.text.find(within) != std::string::npos);
    }
    CHECK(MockNccl::ended(&MockNccl::State::aborts, 0).empty());
    CHECK(MockNccl::ended(&MockNccl::State::destroys, 0).empty());
  }
}

TEST_CASE("no id, and a library older than the header, are refused")
{
  MockNccl::reset();
  for (int result = 1; result <= 6; ++result) {
    MockNccl::state().fault = {NcclCall::get_unique_id, FaultKind::at_once, result};
    CHECK_THROWS_WITH_AS(static_cast<void>(MockCommunicator::make_id()),
                         (std::string("moe::NcclCommunicator::make_id: ncclGetUniqueId (sequence "
                                      "0) is ") +
                          MockNccl::text(result) + ", must be done without errors")
                             .c_str(),
                         CommunicationError);
  }
  MockNccl::reset();
  MockNccl::state().library = 22703;
  CHECK_THROWS_AS(MockCommunicator(1, 0, 2), ValueError);
  CHECK(MockNccl::calls_of(NcclCall::init_rank) == 0);
}
