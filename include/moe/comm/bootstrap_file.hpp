#pragma once
// The file that share() (bootstrap.hpp) passes bytes through: what it holds, how it is written and
// what is refused when it is read.
#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <moe/comm/bootstrap_env.hpp>

namespace moe::bootstrap {

// Removes the file, if it is still the one that was written: keep it until every rank has read,
// which they have once the communicator is made. Ranks other than 0 hold nothing.
class SharedFile {
 public:
  SharedFile() = default;
  SharedFile(std::string path, dev_t device, ino_t inode)
      : path_{std::move(path)}, device_{device}, inode_{inode}
  {
  }
  SharedFile(SharedFile&& other) noexcept
      : path_{std::exchange(other.path_, {})}, device_{other.device_}, inode_{other.inode_}
  {
  }
  SharedFile& operator=(SharedFile&& other) noexcept
  {
    if (this != &other) {
      remove();
      path_   = std::exchange(other.path_, {});
      device_ = other.device_;
      inode_  = other.inode_;
    }
    return *this;
  }
  ~SharedFile() { remove(); }

  void remove() noexcept
  {
    struct stat now = {};
    if (!path_.empty() && ::lstat(path_.c_str(), &now) == 0 && now.st_dev == device_ &&
        now.st_ino == inode_) {
      ::unlink(path_.c_str());
    }
    path_.clear();
  }
  void keep() noexcept { path_.clear(); }  // leaves the file where it is

 private:
  std::string path_;
  dev_t device_ = 0;
  ino_t inode_  = 0;
};

namespace detail {

inline constexpr char const* share_name = "moe::bootstrap::share";

// Then the id of the start, then the blob.
struct FileHeader {
  char magic[8];
  std::uint64_t checksum;  // of all that follows
  std::uint64_t id_bytes, blob_bytes;
  std::uint64_t size;  // of the world
};
inline constexpr char file_magic[8] = {'m', 'o', 'e', 'b', 'o', 'o', 't', '1'};
inline constexpr std::size_t checksum_from =
    offsetof(FileHeader, checksum) + sizeof(FileHeader::checksum);

inline std::uint64_t checksum(std::span<char const> bytes)
{
  std::uint64_t h = 0xcbf29ce484222325u;  // FNV-1a
  for (char const c : bytes) {
    h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  }
  return h;
}

inline std::vector<char> file_image(int size,
                                    std::string const& id,
                                    std::span<std::byte const> blob)
{
  FileHeader header{{}, 0, id.size(), blob.size(), static_cast<std::uint64_t>(size)};
  std::memcpy(header.magic, file_magic, sizeof file_magic);
  std::vector<char> image(sizeof header + id.size() + blob.size());
  std::memcpy(image.data(), &header, sizeof header);
  std::memcpy(image.data() + sizeof header, id.data(), id.size());
  if (!blob.empty()) {
    std::memcpy(image.data() + sizeof header + id.size(), blob.data(), blob.size());
  }
  header.checksum = checksum(std::span<char const>(image).subspan(checksum_from));
  std::memcpy(image.data(), &header, sizeof header);
  return image;
}

// What is wrong with a file's content, or nothing: then the blob has been taken.
inline std::string take_image(std::span<char const> image,
                              int size,
                              std::string const& id,
                              std::span<std::byte> blob)
{
  FileHeader header{};
  std::size_t const n = image.size();
  if (n < sizeof header) { return joined({"cut off after ", text_of(n), " bytes"}); }
  std::memcpy(&header, image.data(), sizeof header);
  if (std::memcmp(header.magic, file_magic, sizeof file_magic) != 0) {
    return "of another kind (wrong first 8 bytes)";
  }
  std::size_t const rest = n - sizeof header;
  if (header.id_bytes > rest || header.blob_bytes != rest - header.id_bytes) {
    return joined({"damaged (", text_of(n), " bytes are not as many as it says)"});
  }
  if (checksum(image.subspan(checksum_from)) != header.checksum) {
    return "damaged (wrong checksum)";
  }
  auto const id_bytes = static_cast<std::size_t>(header.id_bytes);
  std::string_view const its(image.data() + sizeof header, id_bytes);
  if (its != id) { return joined({"of another start (\"", its, "\")"}); }
  if (header.size != static_cast<std::uint64_t>(size)) {
    return joined({"of a world of ", text_of(header.size), " ranks"});
  }
  if (header.blob_bytes != blob.size()) {
    return joined({"of ", text_of(header.blob_bytes), " shared bytes"});
  }
  if (!blob.empty()) {
    std::memcpy(blob.data(), image.data() + sizeof header + id_bytes, blob.size());
  }
  return "";
}

// Closes at the end of its scope.
struct Descriptor {
  explicit Descriptor(int number) : fd{number} {}
  Descriptor(Descriptor const&)            = delete;
  Descriptor& operator=(Descriptor const&) = delete;
  ~Descriptor()
  {
    if (fd >= 0) { ::close(fd); }
  }
  int fd;
};

[[noreturn]] inline void file_error(int rank, std::string const& path, char const* did, int error)
{
  Check{share_name, rank}.fail<ValueError>(
      joined({"file ", path}),
      joined({"not to be ", did, ": ", std::strerror(error)}),
      "in a directory that all ranks may read and rank 0 may write");
}

// Under a name of its own, then renamed: nobody sees half of it, and an older file is replaced.
inline SharedFile write_file(std::string const& path, std::vector<char> const& image)
{
  std::string const temporary = joined({path, ".", text_of(::getpid()), ".new"});
  struct stat written         = {};
  int error                   = 0;
  char const* did             = "made";
  {
    ::unlink(temporary.c_str());  // of a process of our number that died
    Descriptor const file(
        ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (file.fd < 0) { file_error(0, path, did, errno); }
    did = "written";
    for (std::size_t at = 0; at < image.size() && error == 0;) {
      ssize_t const n = ::write(file.fd, image.data() + at, image.size() - at);
      if (n > 0) {
        at += static_cast<std::size_t>(n);
      } else if (n < 0 && errno != EINTR) {
        error = errno;
      }
    }
    if (error == 0 && (::fsync(file.fd) != 0 || ::fstat(file.fd, &written) != 0)) { error = errno; }
  }
  if (error == 0) {
    did = "renamed to";
    if (::rename(temporary.c_str(), path.c_str()) != 0) { error = errno; }
  }
  if (error != 0) {
    ::unlink(temporary.c_str());
    file_error(0, path, did, error);
  }
  return {path, written.st_dev, written.st_ino};
}

// What keeps the file from being taken as it is now, or nothing. Throws for what waiting cannot
// mend.
inline std::string try_file(World const& world,
                            std::string const& path,
                            std::string const& id,
                            std::span<std::byte> blob)
{
  // Does not wait for a pipe's other end.
  Descriptor const file(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  if (file.fd < 0) {
    int const e = errno;
    if (e == EACCES || e == EPERM || e == ENOTDIR || e == ELOOP || e == ENAMETOOLONG) {
      file_error(world.rank, path, "opened", e);
    }
    return e == ENOENT ? "missing" : joined({"not to be opened: ", std::strerror(e)});
  }
  struct stat status = {};
  if (::fstat(file.fd, &status) != 0) { return joined({"not to be read: ", std::strerror(errno)}); }
  if (!S_ISREG(status.st_mode)) {
    Check{share_name, world.rank}.fail<ValueError>(
        joined({"file ", path}), "a directory, pipe or device", "a regular file");
  }
  if (status.st_uid != ::geteuid()) {
    return joined({"of another user (", text_of(status.st_uid), ")"});
  }
  // One byte more than what could be right but for the id, which is told in full.
  std::size_t const most =
      sizeof(FileHeader) + std::max<std::size_t>(id.size(), 4096) + blob.size() + 1;
  std::vector<char> image(most);
  std::size_t size = 0;
  while (size < most) {
    ssize_t const n = ::read(file.fd, image.data() + size, most - size);
    if (n < 0 && errno == EINTR) { continue; }
    if (n < 0) { return joined({"not to be read: ", std::strerror(errno)}); }
    if (n == 0) { break; }
    size += static_cast<std::size_t>(n);
  }
  return take_image(std::span<char const>(image).first(size), world.size, id, blob);
}

}  // namespace detail

}  // namespace moe::bootstrap
