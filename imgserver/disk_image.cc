#include "imgserver/disk_image.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "blockmap/base/coding.h"
#include "blockmap/base/posix_block_device.h"

namespace bootstream {
namespace {

Result<int64_t> ModifiedNs(int fd, const std::string& path) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return ErrnoError(errno, "stat " + path);
  return int64_t{info.st_mtim.tv_sec} * 1000000000 + info.st_mtim.tv_nsec;
}

}  // namespace

Result<DiskImage> DiskImage::Open(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return ErrnoError(errno, "open " + path);
  const auto size = DiskSizeBytes(fd.get());
  if (!size) return Annotate(size.error(), path);
  if (*size == 0 || *size % kBlockBytes != 0) {
    return Error{ErrorCode::kRefused,
                 path + ": its size, " + std::to_string(*size) +
                     " bytes, is no multiple of 4096; extend it with truncate"};
  }
  const auto modified = ModifiedNs(fd.get(), path);
  if (!modified) return modified.error();
  DiskImage image(path, std::move(fd), *size);
  image.modified_ns_ = *modified;
  return image;
}

Status DiskImage::Read(uint64_t offset, std::span<std::byte> out) const {
  while (!out.empty()) {
    const ssize_t got =
        ::pread(fd_.get(), out.data(), out.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      return ErrnoError(errno,
                        "read " + path_ + " at byte " + std::to_string(offset));
    }
    if (got == 0) return Error{ErrorCode::kIo, path_ + " has become shorter"};
    offset += static_cast<uint64_t>(got);
    out = out.subspan(static_cast<size_t>(got));
  }
  return OkStatus();
}

std::vector<ByteExtent> DiskImage::DataExtents() const {
  std::vector<ByteExtent> extents;
  const auto end = static_cast<off_t>(size_bytes_);
  for (off_t at = 0; at < end;) {
    const off_t data = ::lseek(fd_.get(), at, SEEK_DATA);
    if (data < 0 && errno == ENXIO) return extents;  // a hole up to the end
    if (data < 0) return {ByteExtent{0, size_bytes_}};
    const off_t hole = ::lseek(fd_.get(), data, SEEK_HOLE);
    if (hole < 0) return {ByteExtent{0, size_bytes_}};
    const off_t stop = std::min(hole, end);
    if (stop > data) {
      extents.push_back(
          {static_cast<uint64_t>(data), static_cast<uint64_t>(stop - data)});
    }
    at = hole;
  }
  return extents;
}

Result<std::vector<uint64_t>> DiskImage::NonZeroChunks(const Grid& grid,
                                                       ByteExtent range) const {
  std::vector<uint64_t> chunks;
  if (range.size == 0) return chunks;
  std::vector<std::byte> buffer(grid.chunk_bytes);
  const uint64_t last = (range.end() - 1) / grid.chunk_bytes;
  for (uint64_t chunk = range.offset / grid.chunk_bytes; chunk <= last;
       ++chunk) {
    const auto bytes = std::span(buffer).first(grid.bytes_of(chunk));
    if (auto status = Read(grid.offset_of(chunk), bytes); !status) {
      return status.error();
    }
    if (!AllZero(bytes)) chunks.push_back(chunk);
  }
  return chunks;
}

Status DiskImage::CheckUnchanged() const {
  const auto modified = ModifiedNs(fd_.get(), path_);
  if (!modified) return modified.error();
  if (*modified == modified_ns_) return OkStatus();
  return Error{ErrorCode::kRefused,
               path_ + " was written while it was read; stop what uses it"};
}

}  // namespace bootstream
