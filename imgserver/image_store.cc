#include "imgserver/image_store.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <string_view>

namespace bootstream {
namespace {

// openat2(2) has no wrapper in the C library.
UniqueFd OpenBeneath(int directory, const std::string& path, uint64_t flags) {
  open_how how{};
  how.flags = flags | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
  return UniqueFd(static_cast<int>(
      ::syscall(SYS_openat2, directory, path.c_str(), &how, sizeof how)));
}

Refusal RefusalFor(int error_number) {
  switch (error_number) {
    case ENOENT:
    case ENOTDIR:
    case ELOOP:
    case EXDEV:   // a link that leads out
    case EAGAIN:  // the tree was being renamed while ".." was followed
    case ENAMETOOLONG:
    case ENXIO:  // a socket, or a device that is not there
      return {404, "There is no such file."};
    case EACCES:
    case EPERM:
      return {403, "The server may not read this file."};
    case EMFILE:
    case ENFILE:
    case ENOMEM:
      return {503, "The server has too many open files. Try again."};
    default:
      return {500, "The server could not read this file."};
  }
}

std::string FileEtag(const struct stat& st) {
  std::array<char, 96> text;
  std::snprintf(text.data(), text.size(), "\"%jx-%jx.%lx-%jx\"",
                static_cast<uintmax_t>(st.st_size),
                static_cast<uintmax_t>(st.st_mtim.tv_sec), st.st_mtim.tv_nsec,
                static_cast<uintmax_t>(st.st_ino));
  return text.data();
}

}  // namespace

Result<ImageStore> ImageStore::Open(const std::string& directory) {
  UniqueFd root(::open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!root) {
    Error error = ErrnoError(errno, "repository " + directory);
    error.message += "; name the folder that holds images/ and packs/";
    return error;
  }
  return ImageStore(std::move(root));
}

tl::expected<StoredFile, Refusal> ImageStore::OpenFile(
    const RequestPath& path) const {
  const UniqueFd folder =
      OpenBeneath(root_.get(), path.folder, O_PATH | O_DIRECTORY);
  if (!folder) return tl::unexpected(RefusalFor(errno));
  // O_NONBLOCK: opening a FIFO must not wait for a writer.
  StoredFile file;
  file.fd =
      OpenBeneath(folder.get(), path.rest, O_RDONLY | O_NOCTTY | O_NONBLOCK);
  if (!file.fd) return tl::unexpected(RefusalFor(errno));

  struct stat st {};
  if (::fstat(file.fd.get(), &st) != 0) {
    return tl::unexpected(RefusalFor(errno));
  }
  if (!S_ISREG(st.st_mode)) return tl::unexpected(RefusalFor(ENOENT));
  file.facts.size = static_cast<uint64_t>(st.st_size);
  file.facts.mtime = st.st_mtim.tv_sec;
  file.facts.is_immutable = path.is_immutable;
  file.facts.etag =
      path.is_pack ? "\"" + path.rest.substr(path.rest.find('/') + 1) + "\""
                   : FileEtag(st);
  return file;
}

}  // namespace bootstream
