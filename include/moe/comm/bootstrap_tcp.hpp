#pragma once
// What share() (bootstrap.hpp) does without a shared file: rank 0 listens beside torchrun's port
// and hands its bytes to every rank that asks for them.
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <moe/comm/bootstrap_file.hpp>
#include <moe/comm/communication_error.hpp>

namespace moe::bootstrap::detail {

using Clock = std::chrono::steady_clock;

// What a rank says first. Rank 0 answers with a file's image, and the rank with one byte.
struct Hello {
  char magic[8];
  std::uint64_t size, rank, id;
};

// False when the deadline has passed.
inline bool wait_for(int fd, short events, Clock::time_point end)
{
  for (;;) {
    auto const left =
        std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now()).count();
    pollfd one{fd, events, 0};
    int const n = ::poll(&one, 1, static_cast<int>(std::clamp<long long>(left, 0, 60'000)));
    if (n > 0) { return true; }
    if (n < 0 && errno != EINTR) { return false; }
    if (left <= 0) { return false; }
  }
}

// All n bytes or false: the other end left, or the deadline passed.
inline bool send_all(int fd, void const* from, std::size_t n, Clock::time_point end)
{
  for (std::size_t at = 0; at < n;) {
    if (!wait_for(fd, POLLOUT, end)) { return false; }
    ssize_t const sent = ::send(fd, static_cast<char const*>(from) + at, n - at, MSG_NOSIGNAL);
    if (sent > 0) {
      at += static_cast<std::size_t>(sent);
    } else if (errno != EINTR && errno != EAGAIN) {
      return false;
    }
  }
  return true;
}
inline bool receive_all(int fd, void* to, std::size_t n, Clock::time_point end)
{
  for (std::size_t at = 0; at < n;) {
    if (!wait_for(fd, POLLIN, end)) { return false; }
    ssize_t const got = ::recv(fd, static_cast<char*>(to) + at, n - at, 0);
    if (got > 0) {
      at += static_cast<std::size_t>(got);
    } else if (got == 0 || (errno != EINTR && errno != EAGAIN)) {
      return false;
    }
  }
  return true;
}

// On every address of this machine; over IPv4 alone where there is no other.
inline int listen_at(int port)
{
  int const on = 1, off = 0;
  auto const number = htons(static_cast<std::uint16_t>(port));
  sockaddr_in6 six{};
  six.sin6_family = AF_INET6;
  six.sin6_port   = number;
  sockaddr_in four{};
  four.sin_family = AF_INET;
  four.sin_port   = number;
  int error       = 0;
  for (int const family : {AF_INET6, AF_INET}) {
    int const fd = ::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0) {
      ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
      if (family == AF_INET6) { ::setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off); }
      int const bound = family == AF_INET6
                            ? ::bind(fd, reinterpret_cast<sockaddr const*>(&six), sizeof six)
                            : ::bind(fd, reinterpret_cast<sockaddr const*>(&four), sizeof four);
      if (bound == 0 && ::listen(fd, SOMAXCONN) == 0) { return fd; }
    }
    error = errno;
    if (fd >= 0) { ::close(fd); }
    if (error == EADDRINUSE || error == EACCES) { break; }
  }
  Check{share_name}.fail<ValueError>(
      "MASTER_PORT + 1",
      joined({text_of(port), " that cannot be listened at: ", std::strerror(error)}),
      "a port that is free on rank 0's machine");
}

// The ranks that have not taken the bytes by the deadline are the error's.
inline void serve(int size,
                  int port,
                  std::string const& id,
                  std::span<std::byte const> blob,
                  std::chrono::milliseconds deadline)
{
  auto const end   = Clock::now() + deadline;
  auto const image = file_image(size, id, blob);
  std::vector<char> served(static_cast<std::size_t>(size), 0);
  served[0] = 1;
  Descriptor const door(listen_at(port));
  while (std::find(served.begin(), served.end(), 0) != served.end()) {
    // Those who come and are no ranks of ours do not put off the deadline.
    if (Clock::now() >= end || !wait_for(door.fd, POLLIN, end)) {
      std::vector<int> missing;
      for (int r = 0; r < size; ++r) {
        if (served[static_cast<std::size_t>(r)] == 0) { missing.push_back(r); }
      }
      std::string names;
      for (int const r : missing) {
        names = joined({names, names.empty() ? "" : ", ", text_of(r)});
      }
      throw TimeoutError(share_name,
                         joined({"arrival of ranks ", names, " at port ", text_of(port)}),
                         joined({"missing after ", text_of(deadline.count()), " ms"}),
                         "within the deadline",
                         missing,
                         0);
    }
    Descriptor const peer(::accept4(door.fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (peer.fd < 0) {  // gone again, or no descriptor left for it
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      continue;
    }
    // One who says nothing keeps the others waiting no longer than this; a rank would come again.
    auto const until = std::min(end, Clock::now() + std::chrono::seconds(1));
    Hello hello{};
    char taken = 0;
    if (receive_all(peer.fd, &hello, sizeof hello, until) &&
        std::memcmp(hello.magic, file_magic, sizeof file_magic) == 0 &&
        hello.size == static_cast<std::uint64_t>(size) && hello.rank < hello.size &&
        hello.id == checksum(id) && send_all(peer.fd, image.data(), image.size(), until) &&
        receive_all(peer.fd, &taken, 1, until)) {
      served[static_cast<std::size_t>(hello.rank)] = 1;
    }
  }
}

// Connected or -1.
inline int connect_to(addrinfo const& address, Clock::time_point end)
{
  int const fd = ::socket(address.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) { return -1; }
  int error        = ::connect(fd, address.ai_addr, address.ai_addrlen) == 0 ? 0 : errno;
  socklen_t length = sizeof error;
  if (error == EINPROGRESS) {
    error = ETIMEDOUT;
    if (wait_for(fd, POLLOUT, end)) { ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length); }
  }
  if (error == 0) { return fd; }
  ::close(fd);
  errno = error;
  return -1;
}

// What kept the bytes from coming, or nothing. A name is looked up for as long as the system's
// resolver takes.
inline std::string try_server(World const& world,
                              int port,
                              std::string const& id,
                              std::span<std::byte> blob,
                              Clock::time_point end)
{
  addrinfo hints{}, *found = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  int const looked =
      ::getaddrinfo(world.master_addr.c_str(), text_of(port).c_str(), &hints, &found);
  if (looked != 0) { return joined({"not to be found: ", ::gai_strerror(looked)}); }
  std::string wrong = "without an address";
  // Another machine's silence must not use up the deadline at the first of several addresses.
  auto const until = std::min(end, Clock::now() + std::chrono::seconds(5));
  for (addrinfo const* a = found; a != nullptr; a = a->ai_next) {
    Descriptor const rank0(connect_to(*a, until));
    if (rank0.fd < 0) {
      wrong = joined({"not to be reached: ", std::strerror(errno)});
      continue;
    }
    Hello hello{{},
                static_cast<std::uint64_t>(world.size),
                static_cast<std::uint64_t>(world.rank),
                checksum(id)};
    std::memcpy(hello.magic, file_magic, sizeof file_magic);
    std::vector<char> image(sizeof(FileHeader) + id.size() + blob.size());
    if (!send_all(rank0.fd, &hello, sizeof hello, until) ||
        !receive_all(rank0.fd, image.data(), image.size(), until)) {
      wrong = "another program's, start's or exchange's, or busy";
      continue;
    }
    wrong = take_image(image, world.size, id, blob);
    if (wrong.empty()) {
      (void)send_all(rank0.fd, "1", 1, until);
      break;
    }
  }
  ::freeaddrinfo(found);
  return wrong;
}

}  // namespace moe::bootstrap::detail
