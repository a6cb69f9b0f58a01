#include "blockmap/disk/region_tag.h"

#include <fcntl.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <vector>

#include "blockmap/base/coding.h"
#include "blockmap/base/unique_fd.h"
#include "blockmap/disk/ext_filesystem.h"
#include "blockmap/disk/loop_mount.h"
#include "blockmap/map/sealed.h"

namespace bootstream {
namespace {

constexpr std::string_view kMagic = "BSREGION";
constexpr char kWhat[] = "tag of the region file";

Error Corrupt(const char* why) {
  return Error{ErrorCode::kCorrupt, std::string(kWhat) + ": " + why};
}

Status SetTag(int fd, std::span<const std::byte> bytes) {
  if (::fsetxattr(fd, kRegionTagName, bytes.data(), bytes.size(), 0) == 0) {
    return OkStatus();
  }
  if (errno != ENOSPC) return ErrnoError(errno, "set the region file's tag");
  return Error{ErrorCode::kNoSpace,
               "the source's file system has no room for the region file's "
               "tag"};
}

struct HandleClose {
  void operator()(ext2_xattr_handle* handle) const {
    ext2fs_xattrs_close(&handle);
  }
};

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};

}  // namespace

std::array<std::byte, kRegionTagBytes> EncodeRegionTag(const RegionTag& tag) {
  std::vector<std::byte> bytes;
  ByteWriter out(bytes);
  PutMagic(out, kMagic);
  out.U32(0);
  out.U32(tag.chunk_bytes);
  out.U64(0);
  out.Bytes(tag.migration_id);
  for (const DiskChunk chunk : tag.superblock_chunks) out.U64(chunk.value);
  std::array<std::byte, kRegionTagBytes> encoded{};
  std::ranges::copy(bytes, encoded.begin());
  Seal(encoded);
  return encoded;
}

Result<RegionTag> DecodeRegionTag(std::span<const std::byte> bytes) {
  if (auto s = CheckSeal(bytes, kMagic, kWhat); !s) return s.error();
  ByteReader in(bytes);
  in.Skip(kMagic.size() + sizeof(uint32_t));
  RegionTag tag;
  tag.chunk_bytes = in.U32();
  if (in.U64() != 0) {
    return Error{ErrorCode::kUnsupported,
                 std::string(kWhat) +
                     ": written by a newer version; use that version or a "
                     "later one"};
  }
  tag.migration_id = in.Array<16>();
  for (DiskChunk& chunk : tag.superblock_chunks) chunk.value = in.U64();
  if (!in.ok() || in.remaining() != 0) return Corrupt("of another length");
  if (!IsChunkSize(tag.chunk_bytes)) return Corrupt("no such chunk size");
  return tag;
}

Status BlankRegionTag(int fd) {
  constexpr std::array<std::byte, kRegionTagBytes> kBlank{};
  return SetTag(fd, kBlank);
}

Status WriteRegionTag(const std::string& disk, ByteExtent partition,
                      const std::string& name, const RegionTag& tag) {
  auto mount = LoopMount::MountExt4(disk, partition);
  if (!mount) return mount.error();
  const std::string path = mount->directory() + "/" + name;
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  if (!fd) return ErrnoError(errno, "open " + path);
  if (auto s = SetTag(fd.get(), EncodeRegionTag(tag)); !s) return s;
  if (::fsync(fd.get()) != 0) return ErrnoError(errno, "fsync " + path);
  fd.reset();
  return mount->Unmount();
}

Result<RegionTag> ReadRegionTag(const std::string& disk, ByteExtent partition,
                                const std::string& name) {
  const auto fs = OpenExt(disk, partition);
  if (!fs) return fs.error();
  const auto inode = FindInRoot(fs->get(), name);
  if (!inode) return inode.error();
  ext2_xattr_handle* raw = nullptr;
  errcode_t code = ext2fs_xattrs_open(fs->get(), *inode, &raw);
  const std::unique_ptr<ext2_xattr_handle, HandleClose> handle(raw);
  if (code == 0) code = ext2fs_xattrs_read(raw);
  void* value = nullptr;
  size_t size = 0;
  if (code == 0) code = ext2fs_xattr_get(raw, kRegionTagName, &value, &size);
  if (code == EXT2_ET_EA_KEY_NOT_FOUND) {
    return Error{ErrorCode::kNotFound, "the region file has no tag"};
  }
  if (code != 0) return ExtError(code, "read the region file's tag");
  const std::unique_ptr<void, Free> owner(value);
  return DecodeRegionTag({static_cast<const std::byte*>(value), size});
}

}  // namespace bootstream
