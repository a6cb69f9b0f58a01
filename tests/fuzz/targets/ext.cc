// An ext4 file system: its blocks in use and free, the extents of the region's
// file and its tag, where /boot is.  libext2fs reads it; what it says is
// checked by us. The input is a list of changes (place in three bytes, length,
// bytes) to a small file system that mke2fs makes.

#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "blockmap/base/coding.h"
#include "blockmap/base/file_util.h"
#include "blockmap/disk/ext_space.h"
#include "blockmap/disk/file_extents.h"
#include "blockmap/disk/region_tag.h"
#include "blockmap/disk/used_extents.h"
#include "imgserver/boot_directory.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/memory_file.h"

namespace bootstream {
namespace {

constexpr uint64_t kBytesMax = 1 << 20;

RegionTag SomeTag() {
  RegionTag tag;
  tag.migration_id.fill(std::byte{0x42});
  tag.superblock_chunks = {DiskChunk{1}, DiskChunk{2}};
  return tag;
}

std::vector<std::byte> MakeFileSystem() {
  std::string folder =
      (std::filesystem::temp_directory_path() / "fuzz-ext-XXXXXX").string();
  Require(::mkdtemp(folder.data()) != nullptr, "a temporary folder");
  const auto tag = EncodeRegionTag(SomeTag());
  std::ofstream(folder + "/tag", std::ios::binary)
      .write(reinterpret_cast<const char*>(tag.data()), tag.size());
  const std::string script =
      "cd " + folder +
      " && mkdir -p root/boot/grub && echo kernel > root/boot/vmlinuz-6.1 &&"
      " head -c 40000 /dev/zero | tr '\\0' x > root/.bootstream-region &&"
      " /sbin/mke2fs -q -F -t ext4 -b 1024 -N 32"
      " -O ^metadata_csum,^has_journal,^resize_inode,^uninit_bg"
      " -U 01234567-89ab-cdef-0123-456789abcdef"
      " -E hash_seed=01234567-89ab-cdef-0123-456789abcdef"
      " -d root disk 256k >/dev/null && /sbin/debugfs -w -R"
      " 'ea_set -f tag .bootstream-region trusted.bootstream' disk 2>/dev/null";
  Require(std::system(script.c_str()) == 0, "mke2fs makes a file system");
  auto bytes = ReadWholeFile(folder + "/disk", kBytesMax);
  Require(bytes.has_value(), "mke2fs has made a file system");
  std::filesystem::remove_all(folder);
  return std::move(*bytes);
}

void CheckExtents(const std::vector<ByteExtent>& extents, uint64_t size,
                  bool ascending) {
  uint64_t end = 0;
  for (const ByteExtent& extent : extents) {
    Require(extent.size > 0, "no extent is empty");
    Require(extent.offset < size && extent.size <= size - extent.offset,
            "extents lie in the partition");
    Require(!ascending || extent.offset >= end, "extents ascend");
    end = extent.end();
  }
}

}  // namespace

FUZZ_TARGET(ext) {
  static const std::vector<std::byte> base = MakeFileSystem();
  static MemoryFile file;
  static std::vector<ByteExtent> changed = {{0, base.size()}};
  const ByteExtent partition{0, base.size()};
  for (const ByteExtent& part : changed) {
    file.Patch(part.offset, std::span(base).subspan(part.offset, part.size));
  }
  changed.clear();
  ByteReader in(input);
  while (in.remaining() > 4) {
    const uint64_t at = (in.U8() | uint64_t{in.U16()} << 8) % base.size();
    auto data = in.Bytes(std::min<size_t>(in.U8(), in.remaining()));
    data = data.first(std::min<size_t>(data.size(), base.size() - at));
    file.Patch(at, data);
    changed.push_back({at, data.size()});
  }
  const auto used = UsedExtents(file.path(), partition);
  if (used) CheckExtents(*used, partition.size, true);
  const auto region = FileExtents(file.path(), partition, kRegionFileName);
  if (region) {
    CheckExtents(*region, partition.size, false);
    const Grid grid{kChunkBytesMin, partition.size};
    for (const DiskExtent& run : ToExtents(WholeChunks(*region, grid))) {
      Require(run.end() <= grid.chunk_count(), "chunks lie on the disk");
    }
  }
  const auto tag = ReadRegionTag(file.path(), partition, kRegionFileName);
  Require(tag || !input.empty(), "the tag is read");
  const auto space = ReadExtSpace(file.path(), partition, kRegionFileName);
  if (space) {
    CheckExtents(space->free, partition.size, true);
    CheckExtents(space->file, partition.size, false);
  }
  (void)FindBootDirectory(file.path(), partition);
}

}  // namespace bootstream
