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
#include <optional>

#include "blockmap/base/unique_fd.h"
#include "blockmap/disk/ext_filesystem.h"
#include "blockmap/disk/loop_mount.h"
#include "blockmap/disk/region_tag.h"

namespace bootstream {
namespace {

constexpr uint32_t kFiemapBatch = 256;
constexpr uint32_t kFiemapUsable =
    FIEMAP_EXTENT_LAST | FIEMAP_EXTENT_UNWRITTEN | FIEMAP_EXTENT_MERGED;

Error Refused(const std::string& what) {
  return Error{ErrorCode::kRefused, std::string(kRegionFileName) + ": " + what};
}

struct FilePiece {
  uint64_t logical = 0;  // where in the file
  ByteExtent place;      // where on the disk
};

Status AppendPiece(std::vector<FilePiece>& pieces, const FilePiece& piece) {
  if (piece.place.size == 0) return Refused("one of its extents is empty");
  const bool ascending =
      pieces.empty() ||
      pieces.back().logical + pieces.back().place.size <= piece.logical;
  if (!ascending) return Refused("its extents overlap");
  pieces.push_back(piece);
  return OkStatus();
}

// Where they lie, joined where they touch.
std::vector<ByteExtent> Places(const std::vector<FilePiece>& pieces) {
  std::vector<ByteExtent> places;
  for (const FilePiece& piece : pieces) {
    if (!places.empty() && places.back().end() == piece.place.offset) {
      places.back().size += piece.place.size;
    } else {
      places.push_back(piece.place);
    }
  }
  return places;
}

// Pieces of an open file by FIEMAP.
Result<std::vector<FilePiece>> MappedPieces(int fd, ByteExtent partition) {
  const size_t bytes = sizeof(fiemap) + kFiemapBatch * sizeof(fiemap_extent);
  const auto memory = std::make_unique<std::byte[]>(bytes);
  auto* map = reinterpret_cast<fiemap*>(memory.get());
  std::vector<FilePiece> pieces;
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
      const ByteExtent place{partition.offset + extent.fe_physical,
                             extent.fe_length};
      if (auto s = AppendPiece(pieces, {extent.fe_logical, place}); !s) {
        return s.error();
      }
      next = extent.fe_logical + extent.fe_length;
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
  auto old_size = static_cast<uint64_t>(info.st_size);
  const auto allocated = static_cast<uint64_t>(info.st_blocks) * kSectorBytes;
  if (allocated < old_size) {
    if (::ftruncate(fd, 0) != 0) return ErrnoError(errno, "ftruncate");
    old_size = 0;
  }
  const auto length = static_cast<off_t>(std::max(size, old_size));
  if (::fallocate(fd, 0, 0, length) == 0) return OkStatus();
  const int error = errno;
  if (created) {
    ::unlink(path.c_str());
  } else if (::ftruncate(fd, static_cast<off_t>(old_size)) != 0) {
    return ErrnoError(errno, "ftruncate");
  }
  if (error == ENOSPC) {
    return Error{ErrorCode::kNoSpace,
                 "the source's file system has no room for a file of " +
                     std::to_string(size) + " bytes"};
  }
  return ErrnoError(error, "allocate " + path);
}

// Make it as long as the file system allows, which is full then.
Status GrowToFull(int fd, uint64_t file_system_bytes) {
  if (::fallocate(fd, 0, 0, static_cast<off_t>(file_system_bytes)) == 0) {
    return Refused("it has more room than its file system");
  }
  if (errno != ENOSPC) return ErrnoError(errno, "allocate");
  return OkStatus();
}

// `size` bytes, or nothing: all.
Result<std::vector<ByteExtent>> AllocateMounted(const std::string& path,
                                                ByteExtent partition,
                                                std::optional<uint64_t> size) {
  constexpr int kFlags = O_RDWR | O_CLOEXEC | O_NOFOLLOW;
  UniqueFd fd(::open(path.c_str(), kFlags));
  const bool created = !fd && errno == ENOENT;
  if (created) fd.reset(::open(path.c_str(), kFlags | O_CREAT | O_EXCL, 0600));
  if (!fd) return ErrnoError(errno, "open " + path);
  // First, while there is room.
  if (auto s = BlankRegionTag(fd.get()); !s) {
    if (created) ::unlink(path.c_str());
    return s.error();
  }
  const Status grown = size ? Grow(fd.get(), created, path, *size)
                            : GrowToFull(fd.get(), partition.size);
  if (!grown) return grown.error();
  if (::fsync(fd.get()) != 0) return ErrnoError(errno, "fsync " + path);
  const auto pieces = MappedPieces(fd.get(), partition);
  if (!pieces) return pieces.error();
  return Places(*pieces);
}

struct Hole {
  uint64_t from = 0;  // in the file
  uint64_t end = 0;
  // What does not divide an extent, and so needs no room for a longer list of
  // them, comes first: the file system may be full.
  enum class Order { kWholePiece, kEndOfPiece, kOther } order = Order::kOther;
};

// What of `piece` lies outside `kept`.
void AppendHoles(std::vector<Hole>& holes, const FilePiece& piece,
                 std::span<const ByteExtent> kept) {
  const auto append = [&](uint64_t from, uint64_t end) {
    if (from >= end) return;
    const bool to_the_end = end == piece.place.end();
    const bool whole = to_the_end && from == piece.place.offset;
    holes.push_back({piece.logical + (from - piece.place.offset),
                     piece.logical + (end - piece.place.offset),
                     whole        ? Hole::Order::kWholePiece
                     : to_the_end ? Hole::Order::kEndOfPiece
                                  : Hole::Order::kOther});
  };
  uint64_t at = piece.place.offset;
  auto next = std::ranges::partition_point(
      kept, [&](const ByteExtent& extent) { return extent.end() <= at; });
  for (; next != kept.end() && next->offset < piece.place.end(); ++next) {
    append(at, next->offset);
    at = next->end();
  }
  append(at, piece.place.end());
}

Status Punch(int fd, std::span<const Hole> holes) {
  constexpr int kMode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  for (const Hole& hole : holes) {
    if (::fallocate(fd, kMode, static_cast<off_t>(hole.from),
                    static_cast<off_t>(hole.end - hole.from)) != 0) {
      return ErrnoError(errno, "punch a hole");
    }
  }
  // What is free now can be used after the journal's commit.
  if (::fsync(fd) != 0) return ErrnoError(errno, "fsync");
  return OkStatus();
}

Result<std::vector<ByteExtent>> TrimMounted(const std::string& path,
                                            ByteExtent partition,
                                            std::span<const ByteExtent> kept) {
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  if (!fd) return ErrnoError(errno, "open " + path);
  const auto before = MappedPieces(fd.get(), partition);
  if (!before) return before.error();
  std::vector<Hole> holes;
  for (const FilePiece& piece : *before) AppendHoles(holes, piece, kept);
  std::ranges::stable_sort(holes, {}, &Hole::order);
  for (auto first = holes.begin(); first != holes.end();) {
    const auto end = std::ranges::upper_bound(first, holes.end(), first->order,
                                              {}, &Hole::order);
    if (auto s = Punch(fd.get(), {first, end}); !s) return s.error();
    first = end;
  }
  const auto after = MappedPieces(fd.get(), partition);
  if (!after) return after.error();
  return Places(*after);
}

struct ExtentHandleFree {
  void operator()(ext2_extent_handle* handle) const {
    ext2fs_extent_free(handle);
  }
};

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
  std::vector<FilePiece> pieces;
  const uint64_t block_bytes = fs->blocksize;
  const uint64_t blocks = ext2fs_blocks_count(fs->super);
  ext2fs_extent extent{};
  errcode_t code = ext2fs_extent_get(raw, EXT2_EXTENT_ROOT, &extent);
  for (; code == 0; code = ext2fs_extent_get(raw, EXT2_EXTENT_NEXT, &extent)) {
    if ((extent.e_flags & EXT2_EXTENT_FLAGS_LEAF) == 0) continue;
    if (extent.e_pblk >= blocks || extent.e_len > blocks - extent.e_pblk) {
      return Refused("an extent lies outside the file system");
    }
    const ByteExtent place{partition.offset + extent.e_pblk * block_bytes,
                           extent.e_len * block_bytes};
    if (auto s = AppendPiece(pieces, {extent.e_lblk * block_bytes, place});
        !s) {
      return s.error();
    }
  }
  if (code != EXT2_ET_EXTENT_NO_NEXT && code != EXT2_ET_NO_CURRENT_NODE) {
    return ExtError(code, "read extents");
  }
  return Places(pieces);
}

// What a mounted file system has said, and libext2fs says of the unmounted one.
Result<std::vector<ByteExtent>> Agreed(
    const std::string& disk, ByteExtent partition, const std::string& name,
    LoopMount& mount, const Result<std::vector<ByteExtent>>& mapped) {
  if (auto s = mount.Unmount(); !s) return s.error();
  if (!mapped) return mapped.error();
  auto decoded = FileExtents(disk, partition, name);
  if (!decoded) return decoded.error();
  if (*decoded != *mapped) {
    return Refused("the kernel and libext2fs disagree on where it lies");
  }
  return decoded;
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
  auto extents = Agreed(disk, partition, name, *mount, mapped);
  if (extents && TotalBytes(*extents) < size) {
    return Refused("it is too short");
  }
  return extents;
}

Result<std::vector<ByteExtent>> AllocateAll(const std::string& disk,
                                            ByteExtent partition,
                                            const std::string& name) {
  auto mount = LoopMount::MountExt4(disk, partition);
  if (!mount) return mount.error();
  mount->UseReserve();
  const auto mapped =
      AllocateMounted(mount->directory() + "/" + name, partition, {});
  return Agreed(disk, partition, name, *mount, mapped);
}

Result<std::vector<ByteExtent>> TrimFile(const std::string& disk,
                                         ByteExtent partition,
                                         const std::string& name,
                                         std::span<const ByteExtent> kept) {
  auto mount = LoopMount::MountExt4(disk, partition);
  if (!mount) return mount.error();
  mount->UseReserve();
  const auto mapped =
      TrimMounted(mount->directory() + "/" + name, partition, kept);
  return Agreed(disk, partition, name, *mount, mapped);
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
