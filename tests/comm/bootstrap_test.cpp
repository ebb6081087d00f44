// Bytes from rank 0 to all processes, through a file and over TCP: files of every wrong kind, a
// rank 0 that dies, other programs at the port.
#include <moe/comm/bootstrap.hpp>

#include <array>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <doctest/doctest.h>

using namespace moe;
using bootstrap::World;

namespace {

// A folder of the test's own, removed with what is in it.
struct Folder {
  Folder()
  {
    char const* const base = std::getenv("TMPDIR");
    path                   = std::string(base != nullptr ? base : "/tmp") + "/moe_bootstrap_XXXXXX";
    REQUIRE(::mkdtemp(path.data()) != nullptr);
  }
  Folder(Folder const&)            = delete;
  Folder& operator=(Folder const&) = delete;
  ~Folder()
  {
    for (auto const& name : {"file", "new"}) {
      ::unlink((path + "/" + name).c_str());
    }
    ::rmdir((path + "/file").c_str());
    CHECK(::rmdir(path.c_str()) == 0);  // nothing else was left in it
  }
  [[nodiscard]] std::string file() const { return path + "/file"; }
  std::string path;
};

void write_whole(std::string const& path, std::vector<char> const& bytes)
{
  std::FILE* const f = std::fopen(path.c_str(), "wb");
  REQUIRE(f != nullptr);
  if (!bytes.empty()) { CHECK(std::fwrite(bytes.data(), 1, bytes.size(), f) == bytes.size()); }
  std::fclose(f);
}

using Blob = std::array<std::byte, 128>;
Blob blob_of(int seed)
{
  Blob b;
  for (std::size_t i = 0; i < b.size(); ++i) {
    b[i] = static_cast<std::byte>(static_cast<std::size_t>(seed) + 3 * i);
  }
  return b;
}

// f(rank) in a process for each rank of [0, P); their texts, "killed" for one that was.
std::vector<std::string> in_processes(int P, std::function<std::string(int)> const& f)
{
  std::vector<pid_t> ids;
  std::vector<int> ends;
  for (int r = 0; r < P; ++r) {
    int pipe[2] = {};
    REQUIRE(::pipe(pipe) == 0);
    pid_t const id = ::fork();
    REQUIRE(id >= 0);
    if (id == 0) {
      std::string text;
      try {
        text = f(r);
      } catch (std::exception const& e) {
        text = e.what();
      }
      bool const sent = ::write(pipe[1], text.data(), text.size()) == ssize_t(text.size());
      ::_exit(sent ? 0 : 1);
    }
    ::close(pipe[1]);
    ids.push_back(id);
    ends.push_back(pipe[0]);
  }
  std::vector<std::string> texts;
  for (std::size_t r = 0; r < ids.size(); ++r) {
    char buffer[4096];
    std::string text;
    for (ssize_t n = 1; (n = ::read(ends[r], buffer, sizeof buffer)) > 0;) {
      text.append(buffer, static_cast<std::size_t>(n));
    }
    ::close(ends[r]);
    int status = 0;
    REQUIRE(::waitpid(ids[r], &status, 0) == ids[r]);
    texts.push_back(WIFSIGNALED(status)        ? "killed"
                    : WEXITSTATUS(status) != 0 ? "ended badly"
                                               : text);
  }
  return texts;
}

World member(int rank, int size, std::string run = "this start")
{
  World w;
  w.rank   = rank;
  w.size   = size;
  w.run_id = std::move(run);
  return w;
}

bool has(std::string const& text, std::string const& part)
{
  CAPTURE(text);
  CAPTURE(part);
  bool const found = text.find(part) != std::string::npos;
  CHECK(found);
  return found;
}

// What rank 1 of 2 ends with.
std::string end_of_read(std::string const& path, int deadline_ms = 30)
{
  Blob blob         = blob_of(200);
  std::string what  = "no error";
  auto const before = std::chrono::steady_clock::now();
  try {
    (void)bootstrap::share(
        member(1, 2), blob, {.file = path, .deadline = std::chrono::milliseconds(deadline_ms)});
  } catch (Error const& e) {
    what = e.what();
    CHECK(has(what, path));
  }
  CHECK(std::chrono::steady_clock::now() - before < std::chrono::seconds(20));
  CHECK(blob == blob_of(200));  // nothing was taken
  return what;
}

}  // namespace

TEST_CASE("a file's image: cut anywhere, any bit flipped, anything added: refused, nothing taken")
{
  Blob const sent  = blob_of(1);
  auto const image = bootstrap::detail::file_image(4, "start 7", sent);
  auto const taken = [](std::vector<char> const& from, int size = 4, std::string id = "start 7") {
    Blob got               = blob_of(9);
    std::string const what = bootstrap::detail::take_image(from, size, id, got);
    CHECK((got == (what.empty() ? blob_of(1) : blob_of(9))));
    return what;
  };
  CHECK(taken(image).empty());
  for (std::size_t n = 0; n < image.size(); ++n) {
    CHECK(!taken({image.begin(), image.begin() + static_cast<std::ptrdiff_t>(n)}).empty());
  }
  for (std::size_t bit = 0; bit < 8 * image.size(); ++bit) {
    auto flipped     = image;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    CHECK(!taken(flipped).empty());
  }
  auto longer = image;
  longer.push_back(0);
  CHECK(has(taken(longer), "not as many as it says"));
  CHECK(has(taken(image, 5), "of a world of 4 ranks"));
  CHECK(has(taken(image, 4, "start 8"), "of another start (\"start 7\")"));
  std::array<std::byte, 64> half{};
  CHECK(bootstrap::detail::take_image(image, 4, "start 7", half) == "of 128 shared bytes");
}

TEST_CASE("every process gets rank 0's bytes, whoever comes first; the handle removes the file")
{
  for (int P = 1; P <= 8; ++P) {
    Folder const folder;
    if (P % 2 == 0) {  // of a start that died
      write_whole(folder.file(), bootstrap::detail::file_image(P, "before", blob_of(77)));
    }
    auto const texts = in_processes(P, [&](int rank) -> std::string {
      if (rank == P % 3) { ::usleep(30'000); }
      Blob blob = blob_of(rank);
      auto file = bootstrap::share(
          member(rank, P), blob, {.file = folder.file(), .deadline = std::chrono::seconds(60)});
      file.keep();
      return blob == blob_of(0) ? "right" : "wrong";
    });
    CHECK(texts == std::vector<std::string>(static_cast<std::size_t>(P), "right"));
    if (P == 1) { continue; }
    Blob blob = blob_of(0);
    {
      auto file        = bootstrap::share(member(0, P), blob, {.file = folder.file()});
      auto const moved = std::move(file);
      file.remove();
      CHECK(::access(folder.file().c_str(), F_OK) == 0);
    }
    CHECK(::access(folder.file().c_str(), F_OK) != 0);
    {
      auto const file = bootstrap::share(member(0, P), blob, {.file = folder.file()});
      write_whole(folder.path + "/new", {'n'});  // another start's, put in its place
      CHECK(::rename((folder.path + "/new").c_str(), folder.file().c_str()) == 0);
    }
    CHECK(::access(folder.file().c_str(), F_OK) == 0);
  }
}

TEST_CASE("several exchanges of one start go by their tags")
{
  Folder const folder;
  Blob first = blob_of(1), second = blob_of(2), got{};
  bootstrap::ShareOptions const a{
      .file = folder.file(), .tag = "a", .deadline = std::chrono::milliseconds(20)};
  auto b                = a;
  b.tag                 = "b";
  auto const first_file = bootstrap::share(member(0, 2), first, a);
  CHECK_THROWS_AS((void)bootstrap::share(member(1, 2), got, b), TimeoutError);
  auto const second_file = bootstrap::share(member(0, 2), second, b);
  (void)bootstrap::share(member(1, 2), got, b);
  CHECK(got == second);
}

TEST_CASE("rank 0 is killed before it writes: all others end within the deadline and say so")
{
  for (int P = 2; P <= 8; P += 3) {
    Folder const folder;
    auto const before = std::chrono::steady_clock::now();
    auto const texts  = in_processes(P, [&](int rank) -> std::string {
      if (rank == 0) { ::raise(SIGKILL); }
      Blob blob{};
      try {
        (void)bootstrap::share(member(rank, P),
                               blob,
                                {.file = folder.file(), .deadline = std::chrono::milliseconds(200)});
      } catch (TimeoutError const& e) {
        return e.missing == std::vector<int>{0} ? e.what() : "not rank 0";
      }
      return "no error";
    });
    CHECK(std::chrono::steady_clock::now() - before < std::chrono::seconds(30));
    CHECK(texts[0] == "killed");
    for (int r = 1; r < P; ++r) {
      CHECK(
          texts[static_cast<std::size_t>(r)] ==
          "moe::bootstrap::share: file " + folder.file() +
              " is missing after 200 ms, must be rank 0's of start \"this start\", of a world of " +
              std::to_string(P) + ", with 128 shared bytes, within the deadline; seen by rank " +
              std::to_string(r));
    }
  }
}

TEST_CASE("files that are not rank 0's: waited past to the deadline, then told")
{
  Folder const folder;
  std::string const path = folder.file();
  using bootstrap::detail::file_image;
  Blob const blob = blob_of(1);
  CHECK(has(end_of_read(path), "is missing after 30 ms"));
  write_whole(path, {});
  CHECK(has(end_of_read(path), "is cut off after 0 bytes"));
  write_whole(path, std::vector<char>(200, 'x'));
  CHECK(has(end_of_read(path), "is of another kind"));
  write_whole(path, std::vector<char>(1 << 20, 'x'));
  CHECK(has(end_of_read(path), "is of another kind"));
  write_whole(path, file_image(2, "an earlier start", blob));
  CHECK(has(end_of_read(path), "is of another start (\"an earlier start\")"));
  write_whole(path, file_image(2, std::string(3000, 'i'), blob));
  CHECK(has(end_of_read(path), "is of another start (\"iii"));
  write_whole(path, file_image(3, "this start", blob));
  CHECK(has(end_of_read(path), "is of a world of 3 ranks"));
  write_whole(path, file_image(2, "this start", std::span<std::byte const>(blob).first(64)));
  CHECK(has(end_of_read(path), "is of 64 shared bytes"));
  auto damaged = file_image(2, "this start", blob);
  damaged.back() ^= 1;
  write_whole(path, damaged);
  CHECK(has(end_of_read(path), "is damaged (wrong checksum)"));
  if (::geteuid() == 0) {
    write_whole(path, file_image(2, "this start", blob));
    REQUIRE(::chown(path.c_str(), 65534, 65534) == 0);
    CHECK(has(end_of_read(path), "is of another user (65534)"));
  }
}

TEST_CASE("what waiting cannot mend ends at once, with the system's words")
{
  Folder const folder;
  std::string const path = folder.file();
  Blob blob              = blob_of(0);
  constexpr int an_hour  = 3'600'000;
  REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
  CHECK(has(end_of_read(path, an_hour), "must be a regular file"));
  ::unlink(path.c_str());
  REQUIRE(::mkdir(path.c_str(), 0700) == 0);
  CHECK(has(end_of_read(path, an_hour), "must be a regular file"));
  auto const write_end = [&](std::string const& to) -> std::string {
    try {
      (void)bootstrap::share(member(0, 2), blob, {.file = to});
    } catch (ValueError const& e) {
      return e.what();
    }
    return "no error";
  };
  CHECK(has(write_end(path), path + " is not to be renamed to: Is a directory"));
  CHECK(has(write_end(path + "/no/file"), "is not to be made: No such file or directory"));
  // Nobody may do anything in this one; root may, and so becomes nobody in a process of its own.
  REQUIRE(::chmod(path.c_str(), 0) == 0);
  auto const texts = in_processes(2, [&](int rank) -> std::string {
    if (::geteuid() == 0) {
      ::chmod(folder.path.c_str(), 0755);
      if (::setuid(65534) != 0) { return "still root"; }
    }
    (void)bootstrap::share(member(rank, 2), blob, {.file = path + "/f"});
    return "no error";
  });
  CHECK(has(texts[0], "/f is not to be made: Permission denied"));
  CHECK(has(texts[1], "/f is not to be opened: Permission denied"));
  CHECK(::chmod(path.c_str(), 0700) == 0);
  ::rmdir(path.c_str());
  write_whole(path, {'x'});
  CHECK(has(end_of_read(path + "/f", an_hour), "is not to be opened: Not a directory"));
}

TEST_CASE("a world and options that cannot be are refused before any file is touched")
{
  Folder const folder;
  Blob blob{};
  auto const field_of = [&](World const& w, bootstrap::ShareOptions const& o) -> std::string {
    try {
      (void)bootstrap::share(w, blob, o);
    } catch (ValueError const& e) {
      return e.field;
    }
    return "no error";
  };
  bootstrap::ShareOptions const good{.file = folder.file()};
  using std::chrono::milliseconds;
  CHECK(field_of(member(0, 0), good) == "world size");
  CHECK(field_of(member(-1, 2), good) == "rank");
  CHECK(field_of(member(2, 2), good) == "rank");
  CHECK(field_of(member(0, 2, ""), good) == "MOE_RUN_ID");
  CHECK(field_of(member(0, 2), {}) == "MOE_BOOTSTRAP_FILE");
  CHECK(field_of(member(0, 2), {.file = folder.file(), .deadline = milliseconds(0)}) ==
        "deadline in ms");
  CHECK(field_of(member(0, 2), {.file = folder.file(), .deadline = milliseconds::max()}) ==
        "deadline in ms");
  CHECK(::access(folder.file().c_str(), F_OK) != 0);
  CHECK(field_of(World{}, {}) == "no error");  // a world of one needs none of it
}

namespace {

// The second of two ports, which was free a moment ago, is what ranks meet at.
int free_port()
{
  for (;;) {
    bootstrap::detail::Descriptor const any(bootstrap::detail::listen_at(0));
    sockaddr_in6 at{};
    socklen_t length = sizeof at;
    REQUIRE(::getsockname(any.fd, reinterpret_cast<sockaddr*>(&at), &length) == 0);
    int const port = ntohs(at.sin6_port);  // at the same place for IPv4
    if (port > 1) { return port - 1; }
  }
}
World at_port(World w, int port)
{
  w.master_addr = "localhost";
  w.master_port = port;
  return w;
}

}  // namespace

TEST_CASE("over TCP every process gets rank 0's bytes, whoever comes first, exchange by exchange")
{
  for (int P = 2; P <= 8; ++P) {
    int const port   = free_port();
    auto const texts = in_processes(P, [&](int rank) -> std::string {
      if (rank == P % 3) { ::usleep(30'000); }
      for (char const* tag : {"a", "b"}) {
        int const first = tag[0];
        Blob blob       = blob_of(first + rank);
        (void)bootstrap::share(at_port(member(rank, P, ""), port),
                               blob,
                               {.tag = tag, .deadline = std::chrono::seconds(60)});
        if (blob != blob_of(first)) { return "wrong"; }
      }
      return "right";
    });
    CHECK(texts == std::vector<std::string>(static_cast<std::size_t>(P), "right"));
  }
}

TEST_CASE(
    "over TCP: no rank 0, a missing rank, another start, a port in use: ended in the deadline")
{
  int const port     = free_port();
  auto const attempt = [&](int rank, char const* run, int ms) -> std::string {
    Blob blob{};
    try {
      (void)bootstrap::share(
          at_port(member(rank, 4, run), port), blob, {.deadline = std::chrono::milliseconds(ms)});
    } catch (TimeoutError const& e) {
      return (rank == 0 ? e.missing == std::vector<int>{1, 3} : e.missing == std::vector<int>{0})
                 ? e.what()
                 : "others missing";
    }
    return "no error";
  };
  auto const alone = attempt(1, "x", 50);
  CHECK(has(alone, "address localhost:" + std::to_string(port + 1) + " is not to be reached"));
  auto const texts = in_processes(4, [&](int rank) -> std::string {
    if (rank == 1) { ::raise(SIGKILL); }
    return attempt(rank, rank == 3 ? "y" : "x", 3000);
  });
  CHECK(has(texts[0], "arrival of ranks 1, 3 at port " + std::to_string(port + 1)));
  CHECK(texts[1] == "killed");
  CHECK(texts[2] == "no error");
  CHECK(texts[3].find("moe::bootstrap::share: address localhost:") == 0);
  bootstrap::detail::Descriptor const taken(bootstrap::detail::listen_at(port + 1));
  Blob blob{};
  CHECK_THROWS_AS((void)bootstrap::share(at_port(member(0, 2), port), blob, {}), ValueError);
}
