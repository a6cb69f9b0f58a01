#include "blockmap/disk/probe.h"

#include <blkid/blkid.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <openssl/sha.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string_view>

#include "blockmap/base/aligned_buffer.h"
#include "blockmap/base/unique_fd.h"
#include "blockmap/disk/disk_serial.h"
#include "blockmap/disk/ext_filesystem.h"

namespace bootstream {
namespace {

constexpr uint64_t kExtSuperblockOffset = 1024;
constexpr size_t kExtSuperblockBytes = 1024;

struct ProbeFree {
  void operator()(blkid_struct_probe* probe) const { blkid_free_probe(probe); }
};
using ProbeHandle = std::unique_ptr<blkid_struct_probe, ProbeFree>;

std::string Value(blkid_probe probe, const char* name) {
  const char* data = nullptr;
  size_t size = 0;
  if (blkid_probe_lookup_value(probe, name, &data, &size) != 0) return {};
  return std::string(data, ::strnlen(data, size));
}

Result<Content> ProbeRange(int fd, ByteExtent range) {
  const ProbeHandle probe(blkid_new_probe());
  if (!probe) return Error{ErrorCode::kIo, "libblkid: out of memory"};
  if (blkid_probe_set_device(probe.get(), fd, static_cast<off_t>(range.offset),
                             static_cast<off_t>(range.size)) != 0) {
    return Error{ErrorCode::kIo, "libblkid cannot read the disk"};
  }
  blkid_probe_enable_superblocks(probe.get(), 1);
  blkid_probe_set_superblocks_flags(
      probe.get(), BLKID_SUBLKS_TYPE | BLKID_SUBLKS_USAGE | BLKID_SUBLKS_UUID |
                       BLKID_SUBLKS_LABEL);
  blkid_probe_enable_partitions(probe.get(), 0);
  Content content;
  switch (blkid_do_safeprobe(probe.get())) {
    case 0:
      content.type = Value(probe.get(), "TYPE");
      content.usage = Value(probe.get(), "USAGE");
      content.uuid = Value(probe.get(), "UUID");
      content.label = Value(probe.get(), "LABEL");
      return content;
    case 1:
      return content;
    case -2:
      content.ambiguous = true;
      return content;
    default:
      return Error{ErrorCode::kIo, "libblkid cannot read the disk at byte " +
                                       std::to_string(range.offset)};
  }
}

Result<ExtFacts> ReadExtFacts(const std::string& path, ByteExtent partition) {
  auto fs = OpenExt(path, partition);
  if (!fs) return fs.error();
  ext2_super_block* super = (*fs)->super;
  ExtFacts facts;
  facts.block_bytes = (*fs)->blocksize;
  facts.block_count = ext2fs_blocks_count(super);
  std::memcpy(facts.uuid.data(), super->s_uuid, facts.uuid.size());
  facts.clean = (super->s_state & EXT2_VALID_FS) != 0 &&
                (super->s_state & EXT2_ERROR_FS) == 0 &&
                !ext2fs_has_feature_journal_needs_recovery(super) &&
                !ext2fs_has_feature_orphan_present(super) &&
                super->s_last_orphan == 0;
  facts.has_extents = ext2fs_has_feature_extents(super) != 0;
  return facts;
}

Status CheckSectorSize(int fd) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return ErrnoError(errno, "fstat");
  if (!S_ISBLK(info.st_mode)) return OkStatus();
  int sector = 0;
  if (::ioctl(fd, BLKSSZGET, &sector) != 0) {
    return ErrnoError(errno, "BLKSSZGET");
  }
  if (sector != static_cast<int>(kSectorBytes)) {
    return Error{ErrorCode::kUnsupported, "the disk has logical sectors of " +
                                              std::to_string(sector) +
                                              " bytes; only 512 is supported"};
  }
  return OkStatus();
}

std::string FirstLine(const std::filesystem::path& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

// True if somebody has mounted or claimed the block device: an exclusive open
// fails whatever mount namespace that is in.
bool IsClaimed(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_EXCL | O_CLOEXEC));
  return !fd && errno == EBUSY;
}

// A loop device over the file `real` that somebody has claimed; "" if none.
std::string ClaimedLoop(const std::string& real) {
  std::error_code error;
  for (const auto& entry :
       std::filesystem::directory_iterator("/sys/block", error)) {
    if (FirstLine(entry.path() / "loop/backing_file") != real) continue;
    std::string device = "/dev/" + entry.path().filename().string();
    if (IsClaimed(device)) return device;
  }
  return {};
}

}  // namespace

Sha256 SerialDigest(const std::string& path, const std::string& serial) {
  if (serial.empty()) return DiskSerialSha256(path);
  Sha256 digest{};
  ::SHA256(reinterpret_cast<const unsigned char*>(serial.data()), serial.size(),
           reinterpret_cast<unsigned char*>(digest.data()));
  return digest;
}

Task<Result<ProbedDisk>> ProbeDisk(const std::string& path, BlockDevice& device,
                                   const std::string& serial) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) co_return ErrnoError(errno, "open " + path);
  if (auto s = CheckSectorSize(fd.get()); !s) co_return s.error();
  ProbedDisk disk;
  disk.path = path;
  auto table = co_await ReadPartitionTable(device);
  if (!table) co_return table.error();
  disk.table = std::move(*table);
  disk.identity.size_bytes = device.size_bytes();
  disk.identity.table_type = disk.table.type;
  disk.identity.source_table_id = disk.table.id;
  disk.identity.serial_sha256 = SerialDigest(path, serial);
  auto whole = ProbeRange(fd.get(), {0, device.size_bytes()});
  if (!whole) co_return whole.error();
  disk.whole = std::move(*whole);
  for (const Partition& partition : disk.table.partitions) {
    ProbedPartition probed{partition, {}, {}};
    auto content = ProbeRange(fd.get(), partition.extent);
    if (!content) co_return content.error();
    probed.content = std::move(*content);
    if (probed.content.type.starts_with("ext")) {
      const auto ext = ReadExtFacts(path, partition.extent);
      if (!ext) co_return ext.error();
      probed.ext = *ext;
    }
    disk.partitions.push_back(std::move(probed));
  }
  co_return disk;
}

Task<Result<Sha256>> SourceFingerprint(BlockDevice& device,
                                       uint64_t fs_offset) {
  const uint64_t at = fs_offset + kExtSuperblockOffset;
  if (fs_offset % kSectorBytes != 0 || at < fs_offset ||
      device.size_bytes() < kExtSuperblockBytes ||
      at > device.size_bytes() - kExtSuperblockBytes) {
    co_return Error{ErrorCode::kCorrupt,
                    "the source's file system lies beyond the disk"};
  }
  AlignedBuffer super(kExtSuperblockBytes);
  if (auto s = co_await device.Read(at, super.span()); !s) co_return s.error();
  Sha256 digest{};
  ::SHA256(reinterpret_cast<const unsigned char*>(super.data()), super.size(),
           reinterpret_cast<unsigned char*>(digest.data()));
  co_return digest;
}

Status CheckNotInUse(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code error;
  const std::string real = fs::canonical(path, error);
  if (error) return ErrnoError(error.value(), "open " + path);
  if (fs::is_block_file(real, error) && IsClaimed(real)) {
    return Error{ErrorCode::kRefused,
                 path + " is in use: unmount what is mounted from it first"};
  }
  if (const std::string loop = ClaimedLoop(real); !loop.empty()) {
    return Error{ErrorCode::kRefused,
                 path + " is in use through " + loop + ": unmount that first"};
  }
  return OkStatus();
}

std::vector<std::string> CandidateDisks() {
  constexpr std::array<std::string_view, 8> kVirtual{
      "loop", "ram", "zram", "nbd", "dm-", "md", "sr", "fd"};
  std::vector<std::string> disks;
  std::error_code error;
  for (const auto& entry :
       std::filesystem::directory_iterator("/sys/block", error)) {
    const std::string name = entry.path().filename();
    const bool is_virtual = std::ranges::any_of(
        kVirtual, [&](auto prefix) { return name.starts_with(prefix); });
    if (is_virtual || FirstLine(entry.path() / "size") == "0" ||
        FirstLine(entry.path() / "removable") == "1") {
      continue;
    }
    disks.push_back("/dev/" + name);
  }
  std::ranges::sort(disks);
  return disks;
}

}  // namespace bootstream
