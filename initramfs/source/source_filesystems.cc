#include "initramfs/source/source_filesystems.h"

#include <blkid.h>
#include <fcntl.h>
#include <string.h>

#include <cerrno>
#include <map>
#include <memory>

#include "blockmap/base/unique_fd.h"
#include "initramfs/takeover/streamed_partitions.h"

namespace bootstream {
namespace {

using Probe = std::unique_ptr<blkid_struct_probe, decltype(&blkid_free_probe)>;

std::string Value(blkid_probe probe, const char* name) {
  const char* data = nullptr;
  size_t size = 0;
  if (blkid_probe_lookup_value(probe, name, &data, &size) != 0) return {};
  return std::string(data, ::strnlen(data, size));
}

// Fill in what lies there; two signatures at once are nothing.
Status Identify(int fd, SourceFilesystem& filesystem) {
  const Probe probe(blkid_new_probe(), blkid_free_probe);
  if (!probe) return ErrnoError(ENOMEM, "libblkid");
  if (blkid_probe_set_device(
          probe.get(), fd, static_cast<blkid_loff_t>(filesystem.offset_bytes),
          static_cast<blkid_loff_t>(filesystem.size_bytes)) != 0) {
    return ErrnoError(EIO, "libblkid: " + Describe(filesystem));
  }
  blkid_probe_enable_superblocks(probe.get(), 1);
  blkid_probe_set_superblocks_flags(
      probe.get(), BLKID_SUBLKS_TYPE | BLKID_SUBLKS_UUID | BLKID_SUBLKS_LABEL);
  if (blkid_do_safeprobe(probe.get()) != 0) return OkStatus();
  filesystem.type = Value(probe.get(), "TYPE");
  filesystem.uuid = Value(probe.get(), "UUID");
  filesystem.label = Value(probe.get(), "LABEL");
  return OkStatus();
}

Result<uint64_t> SizeOf(int fd, const std::string& path) {
  const Probe probe(blkid_new_probe(), blkid_free_probe);
  if (!probe || blkid_probe_set_device(probe.get(), fd, 0, 0) != 0) {
    return ErrnoError(EIO, "libblkid: " + path);
  }
  return static_cast<uint64_t>(blkid_probe_get_size(probe.get()));
}

// What nobody can mount, as people call it.
const std::map<std::string, std::string> kNotMounted = {
    {"", "nothing that is known"},
    {"BitLocker", "encrypted (BitLocker)"},
    {"crypto_LUKS", "encrypted (LUKS)"},
    {"LVM2_member", "part of LVM"},
    {"linux_raid_member", "part of a RAID"},
    {"swap", "swap space"},
};

// A journal is never replayed: that would write.
const std::map<std::string, WayToMount> kWays = {
    {"btrfs", {"btrfs", "rescue=nologreplay", ""}},
    {"exfat", {"exfat", "", ""}},
    {"ext2", {"ext4", "noload", ""}},
    {"ext3", {"ext4", "noload", ""}},
    {"ext4", {"ext4", "noload", ""}},
    {"ntfs", {"ntfs3", "", "ntfs-3g"}},
    {"vfat", {"vfat", "", ""}},
    {"xfs", {"xfs", "norecovery,nouuid", ""}},
};

}  // namespace

Result<std::vector<SourceFilesystem>> FindSourceFilesystems(
    const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return ErrnoError(errno, "open " + path);
  std::vector<SourceFilesystem> found;
  const auto partitions = ReadStreamedPartitions(path);
  if (!partitions && partitions.error().code != ErrorCode::kNotFound) {
    return partitions.error();
  }
  if (partitions) {
    for (const StreamedPartition& partition : *partitions) {
      found.push_back({partition.number, partition.start_bytes,
                       partition.size_bytes, "", "", ""});
    }
  } else {
    const auto size = SizeOf(fd.get(), path);
    if (!size) return size.error();
    found.push_back({0, 0, *size, "", "", ""});
  }
  for (SourceFilesystem& filesystem : found) {
    if (auto s = Identify(fd.get(), filesystem); !s) return s.error();
  }
  return found;
}

Result<WayToMount> HowToMount(const SourceFilesystem& filesystem) {
  if (const auto way = kWays.find(filesystem.type); way != kWays.end()) {
    return way->second;
  }
  const auto other = kNotMounted.find(filesystem.type);
  return Error{
      ErrorCode::kUnsupported,
      Describe(filesystem) + " is " +
          (other != kNotMounted.end() ? other->second
                                      : "of a type that is not mounted here")};
}

std::string Describe(const SourceFilesystem& filesystem) {
  std::string text = filesystem.partition == 0
                         ? "the whole disk"
                         : "partition " + std::to_string(filesystem.partition);
  if (filesystem.type.empty()) return text;
  text += " (" + filesystem.type;
  if (!filesystem.label.empty()) text += ", '" + filesystem.label + "'";
  return text + ")";
}

}  // namespace bootstream
