#include "blockmap/disk/file_extents.h"

#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

#include "blockmap/base/unique_fd.h"
#include "blockmap/disk/ext_filesystem.h"
#include "blockmap/disk/loop_mount.h"

namespace bootstream {
namespace {

constexpr uint32_t kFiemapBatch = 256;
constexpr uint32_t kFiemapUsable =
    FIEMAP_EXTENT_LAST | FIEMAP_EXTENT_UNWRITTEN | FIEMAP_EXTENT_MERGED;

Error Refused(const std::string& what) {
  return Error{ErrorCode::kRefused, std::string(kRegionFileName) + ": " + what};
}

// Append the next piece of a file; one that goes on where the last one ends is
// joined to it.  `logical` is where in the file it lies: no holes.
Status AppendPiece(std::vector<ByteExtent>& pieces, uint64_t& next_logical,
                   uint64_t logical, ByteExtent piece) {
  if (logical != next_logical) return Refused("the file has a hole");
  next_logical += piece.size;
  if (!pieces.empty() && pieces.back().end() == piece.offset) {
    pieces.back().size += piece.size;
  } else {
    pieces.push_back(piece);
  }
  return OkStatus();
}

// Extents of an open file by FIEMAP, on the disk.
Result<std::vector<ByteExtent>> MappedExtents(int fd, ByteExtent partition) {
  const size_t bytes = sizeof(fiemap) + kFiemapBatch * sizeof(fiemap_extent);
  const auto memory = std::make_unique<std::byte[]>(bytes);
  auto* map = reinterpret_cast<fiemap*>(memory.get());
  std::vector<ByteExtent> pieces;
  uint64_t next = 0;
  for (;;) {
    std::memset(memory.get(), 0, bytes);
    map->fm_start = next;
    map->fm_length = FIEMAP_MAX_OFFSET - next;
    map->fm_flags = FIEMAP_FLAG_SYNC;
    map->fm_extent_count = kFiemapBatch;
    if (::ioctl(fd, FS_IOC_FIEMAP, map) != 0)
      return ErrnoError(errno, "FIEMAP");
    if (map->fm_mapped_extents == 0) return pieces;
    for (uint32_t i = 0; i < map->fm_mapped_extents; ++i) {
      const fiemap_extent& extent = map->fm_extents[i];
      if ((extent.fe_flags & ~kFiemapUsable) != 0) {
        return Refused("an extent is delayed, inline, encoded or shared");
      }
      if (extent.fe_physical > partition.size ||
          extent.fe_length > partition.size - extent.fe_physical) {
        return Refused("an extent lies outside the partition");
      }
      auto s = AppendPiece(
          pieces, next, extent.fe_logical,
          {partition.offset + extent.fe_physical, extent.fe_length});
      if (!s) return s.error();
      if ((extent.fe_flags & FIEMAP_EXTENT_LAST) != 0) return pieces;
    }
  }
}

uint64_t TotalBytes(const std::vector<ByteExtent>& extents) {
  uint64_t total = 0;
  for (const ByteExtent& extent : extents) total += extent.size;
  return total;
}

// Make the open file `size` bytes long, all of them allocated.
Status Grow(int fd, bool created, const std::string& path, uint64_t size) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return ErrnoError(errno, "fstat");
  if (!S_ISREG(info.st_mode)) return Refused("it is not a regular file");
  const auto old_size = static_cast<uint64_t>(info.st_size);
  const auto length = static_cast<off_t>(std::max(size, old_size));
  if (::fallocate(fd, 0, 0, length) == 0) return OkStatus();
  const int error = errno;
  if (created) {
    ::unlink(path.c_str());
  } else if (::ftruncate(fd, info.st_size) != 0) {
    return ErrnoError(errno, "ftruncate");
  }
  if (error == ENOSPC) {
    return Error{ErrorCode::kNoSpace,
                 "the source's file system has no room for a file of " +
                     std::to_string(size) + " bytes"};
  }
  return ErrnoError(error, "allocate " + path);
}

Result<std::vector<ByteExtent>> AllocateMounted(const std::string& path,
                                                ByteExtent partition,
                                                uint64_t size) {
  constexpr int kFlags = O_RDWR | O_CLOEXEC | O_NOFOLLOW;
  UniqueFd fd(::open(path.c_str(), kFlags));
  const bool created = !fd && errno == ENOENT;
  if (created) fd.reset(::open(path.c_str(), kFlags | O_CREAT | O_EXCL, 0600));
  if (!fd) return ErrnoError(errno, "open " + path);
  const Status grown = Grow(fd.get(), created, path, size);
  if (!grown) return grown.error();
  if (::fsync(fd.get()) != 0) return ErrnoError(errno, "fsync " + path);
  return MappedExtents(fd.get(), partition);
}

struct ExtentHandleFree {
  void operator()(ext2_extent_handle* handle) const {
    ext2fs_extent_free(handle);
  }
};

Result<ext2_ino_t> FindInRoot(ext2_filsys fs, const std::string& name) {
  ext2_ino_t inode = 0;
  const errcode_t code =
      ext2fs_lookup(fs, EXT2_ROOT_INO, name.c_str(),
                    static_cast<int>(name.size()), nullptr, &inode);
  if (code == EXT2_ET_FILE_NOT_FOUND) {
    return Error{ErrorCode::kNotFound, "there is no " + name};
  }
  if (code != 0) return ExtError(code, "look up " + name);
  return inode;
}

Result<std::vector<ByteExtent>> DecodeExtents(ext2_filsys fs, ext2_ino_t number,
                                              ByteExtent partition) {
  ext2_inode inode{};
  if (auto code = ext2fs_read_inode(fs, number, &inode); code != 0) {
    return ExtError(code, "read inode");
  }
  if (!LINUX_S_ISREG(inode.i_mode)) return Refused("it is not a regular file");
  if ((inode.i_flags & EXT4_EXTENTS_FL) == 0) {
    return Refused("it is not mapped by extents");
  }
  ext2_extent_handle* raw = nullptr;
  if (auto code = ext2fs_extent_open2(fs, number, &inode, &raw); code != 0) {
    return ExtError(code, "read extents");
  }
  const std::unique_ptr<ext2_extent_handle, ExtentHandleFree> handle(raw);
  std::vector<ByteExtent> pieces;
  uint64_t next = 0;
  const uint64_t block_bytes = fs->blocksize;
  const uint64_t blocks = ext2fs_blocks_count(fs->super);
  ext2fs_extent extent{};
  errcode_t code = ext2fs_extent_get(raw, EXT2_EXTENT_ROOT, &extent);
  for (; code == 0; code = ext2fs_extent_get(raw, EXT2_EXTENT_NEXT, &extent)) {
    if ((extent.e_flags & EXT2_EXTENT_FLAGS_LEAF) == 0) continue;
    if (extent.e_pblk >= blocks || extent.e_len > blocks - extent.e_pblk) {
      return Refused("an extent lies outside the file system");
    }
    auto s = AppendPiece(pieces, next, extent.e_lblk * block_bytes,
                         {partition.offset + extent.e_pblk * block_bytes,
                          extent.e_len * block_bytes});
    if (!s) return s.error();
  }
  if (code != EXT2_ET_EXTENT_NO_NEXT && code != EXT2_ET_NO_CURRENT_NODE) {
    return ExtError(code, "read extents");
  }
  return pieces;
}

}  // namespace

Result<std::vector<ByteExtent>> FileExtents(const std::string& disk,
                                            ByteExtent partition,
                                            const std::string& name) {
  auto fs = OpenExt(disk, partition);
  if (!fs) return fs.error();
  const auto inode = FindInRoot(fs->get(), name);
  if (!inode) return inode.error();
  return DecodeExtents(fs->get(), *inode, partition);
}

Result<std::vector<ByteExtent>> AllocateFile(const std::string& disk,
                                             ByteExtent partition,
                                             const std::string& name,
                                             uint64_t size) {
  auto mount = LoopMount::MountExt4(disk, partition);
  if (!mount) return mount.error();
  const auto mapped =
      AllocateMounted(mount->directory() + "/" + name, partition, size);
  if (auto s = mount->Unmount(); !s) return s.error();
  if (!mapped) return mapped.error();
  auto decoded = FileExtents(disk, partition, name);
  if (!decoded) return decoded.error();
  if (*decoded != *mapped) {
    return Refused("the kernel and libext2fs disagree on where it lies");
  }
  if (TotalBytes(*decoded) < size) return Refused("it is too short");
  return decoded;
}

Status RemoveFile(const std::string& disk, ByteExtent partition,
                  const std::string& name) {
  auto mount = LoopMount::MountExt4(disk, partition);
  if (!mount) return mount.error();
  const std::string path = mount->directory() + "/" + name;
  const int result = ::unlink(path.c_str());
  const int error = errno;
  if (auto s = mount->Unmount(); !s) return s;
  if (result != 0 && error != ENOENT) {
    return ErrnoError(error, "remove " + name);
  }
  return OkStatus();
}

std::vector<DiskChunk> WholeChunks(std::span<const ByteExtent> extents,
                                   Grid grid) {
  std::vector<DiskChunk> chunks;
  for (const ByteExtent& extent : extents) {
    const uint64_t first = extent.offset / grid.chunk_bytes +
                           (extent.offset % grid.chunk_bytes != 0);
    const uint64_t end =
        std::min(extent.end(), grid.size_bytes) / grid.chunk_bytes;
    for (uint64_t c = first; c < end; ++c) chunks.push_back(DiskChunk{c});
  }
  return chunks;
}

std::vector<DiskExtent> ToExtents(std::vector<DiskChunk> chunks) {
  std::ranges::sort(chunks);
  std::vector<DiskExtent> extents;
  for (const DiskChunk chunk : chunks) {
    if (!extents.empty() && extents.back().end() == chunk.value) {
      ++extents.back().count;
    } else {
      extents.push_back({chunk.value, 1});
    }
  }
  return extents;
}

}  // namespace bootstream
