#ifndef IMGSERVER_DISK_IMAGE_H_
#define IMGSERVER_DISK_IMAGE_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "blockmap/base/result.h"
#include "blockmap/base/types.h"
#include "blockmap/base/unique_fd.h"

namespace bootstream {

// A raw disk image, read only.  Any thread may read.
class DiskImage {
 public:
  // kRefused: its size is no multiple of 4096.
  static Result<DiskImage> Open(const std::string& path);

  const std::string& path() const { return path_; }
  uint64_t size_bytes() const { return size_bytes_; }
  // REQUIRES: inside the image.
  Status Read(uint64_t offset, std::span<std::byte> out) const;
  // What is not a hole (SEEK_DATA, SEEK_HOLE); all of it where the file system
  // cannot tell.  Ascending.
  std::vector<ByteExtent> DataExtents() const;
  // The chunks of `grid` inside `range` that are not all zero, ascending.
  Result<std::vector<uint64_t>> NonZeroChunks(const Grid& grid,
                                              ByteExtent range) const;
  // kRefused if the file was written since Open.
  Status CheckUnchanged() const;

 private:
  DiskImage(std::string path, UniqueFd fd, uint64_t size_bytes)
      : path_(std::move(path)), fd_(std::move(fd)), size_bytes_(size_bytes) {}
  std::string path_;
  UniqueFd fd_;
  uint64_t size_bytes_;
  int64_t modified_ns_ = 0;
};

}  // namespace bootstream

#endif  // IMGSERVER_DISK_IMAGE_H_
