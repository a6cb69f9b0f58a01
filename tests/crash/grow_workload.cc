#include "tests/crash/grow_workload.h"

#include <algorithm>
#include <cstring>
#include <random>

#include "blockmap/base/coding.h"
#include "initramfs/grow/table_growth.h"
#include "tests/support/memory_device.h"

namespace bootstream {
namespace {

constexpr uint64_t kSector = kSectorBytes;
constexpr uint64_t kMiBSectors = 2048;
constexpr uint32_t kEntryBytes = 128;
constexpr uint64_t kEntriesLba = 2;
// How much larger a disk is than its image: copies that lie on each other,
// partly or wholly, and apart.
constexpr uint64_t kMore[] = {0, 1, 20, 32, 33, 34, 70, 2048, 5000};
constexpr std::byte kType{0x11};
constexpr std::byte kDiskGuid{0x33};

std::byte GuidOf(size_t part) { return std::byte{0x41} | std::byte(part); }

std::string GrowTable(BlockDevice& disk) {
  const auto table = RunInline(ReadTableToGrow(disk));
  if (!table) return "read: " + table.error().message;
  const auto growth = PlanTableGrowth(*table, true);
  if (!growth) return "plan: " + growth.error().message;
  const Status written = RunInline(WriteTableGrowth(disk, *growth));
  return written ? "" : "write: " + written.error().message;
}

}  // namespace

GrowWorkload::GrowWorkload(uint64_t seed) {
  std::mt19937_64 random(seed);
  entry_count_ = random() % 3 == 0 ? 4 : 128;
  image_sectors_ = 3 * kMiBSectors + random() % 64;
  disk_sectors_ = image_sectors_ + kMore[random() % std::size(kMore)];
  base_.resize(disk_sectors_ * kSector);
  for (std::byte& byte : base_) byte = static_cast<std::byte>(random());
  parts_.resize(4);
  grown_ = random() % 4;
  // In any order of numbers, the last one up to the last usable sector or not.
  const uint64_t usable = image_sectors_ - 1 - (entry_count_ + 3) / 4 - 1;
  for (uint32_t i = 0; i < 4; ++i) {
    parts_[i] = {kMiBSectors + i * 100, kMiBSectors + i * 100 + 99};
  }
  parts_[grown_] = {kMiBSectors + 400, usable - random() % 50};
  std::memset(base_.data(), 0, (kEntriesLba + 32) * kSector);
  const size_t mbr = 446;
  base_[mbr + 4] = std::byte{0xee};
  base_[mbr + 8] = std::byte{1};
  StoreLe(std::span(base_).subspan(mbr + 12).first<4>(),
          static_cast<uint32_t>(image_sectors_ - 1));
  base_[510] = std::byte{0x55};
  base_[511] = std::byte{0xaa};
  const uint64_t last = image_sectors_ - 1;
  PutTable(1, last, kEntriesLba);
  PutTable(last, 1, last - (entry_count_ + 3) / 4);
  MemoryDevice disk(base_);
  if (const auto strict = RunInline(ReadPartitionTable(disk)); !strict) {
    wrong_base_ = "no table to begin with: " + strict.error().message;
  }
  if (wrong_base_.empty()) wrong_base_ = GrowTable(disk);
  wanted_.assign(disk.bytes().begin(), disk.bytes().end());
  const auto strict = RunInline(ReadPartitionTable(disk));
  if (!strict) wrong_base_ = "grown: " + strict.error().message;
}

void GrowWorkload::PutTable(uint64_t own, uint64_t other,
                            uint64_t entries_lba) {
  std::vector<std::byte> entries((entry_count_ + 3) / 4 * kSector);
  for (uint32_t i = 0; i < parts_.size(); ++i) {
    const auto entry = std::span(entries).subspan(size_t{i} * kEntryBytes);
    std::fill_n(entry.begin(), 16, kType);
    std::fill_n(entry.begin() + 16, 16, GuidOf(i));
    StoreLe(entry.subspan<32, 8>(), parts_[i].first);
    StoreLe(entry.subspan<40, 8>(), parts_[i].last);
  }
  std::memcpy(base_.data() + entries_lba * kSector, entries.data(),
              entries.size());
  GptHeader header;
  header.own_lba = own;
  header.other_lba = other;
  header.first_usable = 34;
  header.last_usable = image_sectors_ - 2 - (entry_count_ + 3) / 4;
  header.disk_guid.fill(kDiskGuid);
  header.entries_lba = entries_lba;
  header.entry_count = entry_count_;
  header.entry_bytes = kEntryBytes;
  header.entries_crc =
      GptCrc32(std::span(entries).first(header.entries_bytes()));
  AlignedBuffer like(kSector);
  std::memcpy(like.data(), "EFI PART\0\0\1\0\x5c\0\0\0", 16);
  const AlignedBuffer sector = EncodeGptHeader(header, like.span());
  std::memcpy(base_.data() + own * kSector, sector.data(), kSector);
}

std::string GrowWorkload::Run(RecordingDevice& device) {
  if (!wrong_base_.empty()) return wrong_base_;
  std::string wrong = GrowTable(device);
  done_ = device.clock();
  if (wrong.empty() && !std::ranges::equal(device.bytes(), wanted_)) {
    wrong = "it grows otherwise than the last time";
  }
  return wrong;
}

Tally GrowWorkload::TallyOf(std::span<const std::byte>,
                            const Recording& recording) const {
  Tally tally{{"tables grown", 1}, {"flushes", recording.flushes.size()}};
  if (disk_sectors_ == image_sectors_) tally["disks as large as the image"] = 1;
  return tally;
}

// Nothing but LBA 0 to 33, the old second header and the end.
std::string GrowWorkload::CheckUntouched(DiskBytes disk) const {
  const auto same = [&](uint64_t first, uint64_t end) {
    return first >= end || std::memcmp(disk.data() + first * kSector,
                                       base_.data() + first * kSector,
                                       (end - first) * kSector) == 0;
  };
  const uint64_t end = disk_sectors_ - 1 - (entry_count_ + 3) / 4;
  const uint64_t old = std::min(image_sectors_ - 1, end);
  if (same(kEntriesLba + (entry_count_ + 3) / 4, old) && same(old + 1, end)) {
    return "";
  }
  return "something other than the table was written";
}

// The copy with its header at `lba` is the old table or the new one.
std::string GrowWorkload::CheckCopy(BlockDevice& disk, uint64_t lba,
                                    bool must_be, bool must_be_new) const {
  const auto copy = RunInline(ReadGptCopy(disk, lba));
  const std::string where = "LBA " + std::to_string(lba) + ": ";
  if (!copy) return must_be ? where + copy.error().message : "";
  const auto partitions = GptPartitions(*copy);
  if (!partitions) return where + partitions.error().message;
  if (partitions->size() != parts_.size()) return where + "partitions lost";
  for (uint32_t i = 0; i < parts_.size(); ++i) {
    const Partition& found = (*partitions)[i];
    const uint64_t last = found.extent.end() / kSector - 1;
    const bool grown =
        i == grown_ && (last + 1) % kMiBSectors == 0 && last > parts_[i].last;
    const bool was = last == parts_[i].last;
    if (found.extent.offset != parts_[i].first * kSector || !(was || grown) ||
        found.guid[0] != GuidOf(i) || copy->header.disk_guid[0] != kDiskGuid) {
      return where + "neither the old table nor the new one";
    }
    const bool could = disk_sectors_ - image_sectors_ > kMiBSectors + 100;
    if (i == grown_ && must_be_new && could && !grown) {
      return where + "the old table, and the new one was flushed";
    }
  }
  return "";
}

std::string GrowWorkload::Recover(BlockDevice& device, const Cut&) {
  return GrowTable(device);
}

std::string GrowWorkload::Check(ScratchDisk& disk, const Cut& cut) {
  const bool over = done_ != 0 && cut.clock > done_;
  std::string wrong = CheckUntouched(disk.bytes());
  if (wrong.empty()) wrong = CheckCopy(disk, 1, true, over);
  if (wrong.empty()) wrong = CheckCopy(disk, disk_sectors_ - 1, over, over);
  if (!wrong.empty()) return wrong;
  wrong = GrowTable(disk);
  if (!wrong.empty()) return "recovered: " + wrong;
  if (!std::ranges::equal(disk.bytes(), wanted_)) {
    return "recovered, the disk is another one than without a power cut";
  }
  return "";
}

}  // namespace bootstream
