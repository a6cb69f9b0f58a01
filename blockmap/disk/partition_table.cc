#include "blockmap/disk/partition_table.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <string_view>

#include "blockmap/base/aligned_buffer.h"
#include "blockmap/base/coding.h"
#include "blockmap/disk/gpt.h"
#include "blockmap/disk/mbr.h"

namespace bootstream {
namespace {

constexpr uint32_t kLogicalPartitionsMax = 128;

Error Corrupt(std::string_view what) {
  return Error{ErrorCode::kCorrupt, "partition table: " + std::string(what)};
}

ByteExtent Sectors(uint64_t lba, uint64_t count) {
  return {lba * kSectorBytes, count * kSectorBytes};
}

Status CheckGptCopies(const GptCopy& primary, const GptCopy& backup,
                      uint64_t sectors) {
  const GptHeader& a = primary.header;
  const GptHeader& b = backup.header;
  if (b.other_lba != 1 || a.disk_guid != b.disk_guid ||
      a.entry_count != b.entry_count || a.entry_bytes != b.entry_bytes ||
      a.entries_crc != b.entries_crc || a.first_usable != b.first_usable ||
      a.last_usable != b.last_usable) {
    return Corrupt("the two copies of the GPT differ; repair it first");
  }
  const uint64_t size = a.entries_sectors();
  if (a.entries_lba < 2 || a.entries_lba + size > a.first_usable ||
      a.first_usable > a.last_usable || a.last_usable >= b.entries_lba ||
      b.entries_lba + size > b.own_lba || b.own_lba >= sectors) {
    return Corrupt("the parts of the GPT overlap or leave the disk");
  }
  return OkStatus();
}

Task<Result<PartitionTable>> ReadGpt(BlockDevice& device) {
  auto primary = co_await ReadGptCopy(device, 1);
  if (!primary) co_return primary.error();
  auto backup = co_await ReadGptCopy(device, primary->header.other_lba);
  if (!backup) co_return backup.error();
  if (auto s =
          CheckGptCopies(*primary, *backup, device.size_bytes() / kSectorBytes);
      !s) {
    co_return s.error();
  }
  PartitionTable table;
  table.type = TableType::kGpt;
  table.id = primary->header.disk_guid;
  auto partitions = GptPartitions(*primary);
  if (!partitions) co_return partitions.error();
  table.partitions = std::move(*partitions);
  const uint64_t count = primary->header.entries_sectors();
  table.table_extents = {Sectors(backup->header.entries_lba, count),
                         Sectors(backup->header.own_lba, 1),
                         Sectors(primary->header.entries_lba, count),
                         Sectors(1, 1), Sectors(0, 1)};
  co_return table;
}

Status AddMbrPartition(PartitionTable& table, uint32_t number, uint8_t type,
                       uint64_t first, uint64_t count, uint64_t sectors) {
  if (first == 0 || first >= sectors || count > sectors - first) {
    return Corrupt("partition " + std::to_string(number) +
                   " reaches beyond the disk");
  }
  Partition partition;
  partition.number = number;
  partition.mbr_type = type;
  partition.extent = Sectors(first, count);
  table.partitions.push_back(std::move(partition));
  return OkStatus();
}

// Follow the chain of extended boot records that begins at LBA `start`.
Task<Status> ReadLogical(BlockDevice& device, uint64_t start,
                         PartitionTable& table) {
  const uint64_t sectors = device.size_bytes() / kSectorBytes;
  uint64_t lba = start;
  for (uint32_t i = 0; i < kLogicalPartitionsMax; ++i) {
    auto sector = co_await ReadTableSectors(device, lba, 1);
    if (!sector) co_return sector.error();
    if (!HasBootSignature(sector->span())) {
      co_return Corrupt("extended boot record at LBA " + std::to_string(lba) +
                        " is missing");
    }
    table.table_extents.push_back(Sectors(lba, 1));
    const auto entries = MbrEntries(sector->span());
    if (entries[0].used()) {
      auto s =
          AddMbrPartition(table, 5 + i, entries[0].type, lba + entries[0].first,
                          entries[0].count, sectors);
      if (!s) co_return s;
    }
    if (!entries[1].extended()) co_return OkStatus();
    lba = start + entries[1].first;
  }
  co_return Corrupt("the chain of logical partitions does not end");
}

Task<Result<PartitionTable>> ReadMbr(BlockDevice& device,
                                     std::span<const std::byte> sector) {
  PartitionTable table;
  table.type = TableType::kMbr;
  std::memcpy(table.id.data(), sector.data() + 440, 4);
  const uint64_t sectors = device.size_bytes() / kSectorBytes;
  const auto entries = MbrEntries(sector);
  for (uint32_t i = 0; i < entries.size(); ++i) {
    if (!entries[i].used()) continue;
    Status s;
    if (entries[i].extended()) {
      s = co_await ReadLogical(device, entries[i].first, table);
    } else {
      s = AddMbrPartition(table, i + 1, entries[i].type, entries[i].first,
                          entries[i].count, sectors);
    }
    if (!s) co_return s.error();
  }
  std::ranges::sort(table.partitions, {}, &Partition::number);
  if (auto s = CheckNoOverlap(table.partitions); !s) co_return s.error();
  table.table_extents.push_back(Sectors(0, 1));
  co_return table;
}

constexpr Uuid GuidBytes(std::array<uint8_t, 16> bytes) {
  Uuid out{};
  for (size_t i = 0; i < out.size(); ++i) out[i] = std::byte{bytes[i]};
  return out;
}

}  // namespace

Status CheckNoOverlap(const std::vector<Partition>& partitions) {
  std::vector<ByteExtent> extents;
  extents.reserve(partitions.size());
  for (const Partition& p : partitions) extents.push_back(p.extent);
  std::ranges::sort(extents);
  for (size_t i = 1; i < extents.size(); ++i) {
    if (extents[i].offset < extents[i - 1].end()) {
      return Corrupt("two partitions overlap");
    }
  }
  return OkStatus();
}

const Uuid kEspTypeGuid =
    GuidBytes({0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00,
               0xa0, 0xc9, 0x3e, 0xc9, 0x3b});
const Uuid kBiosBootTypeGuid =
    GuidBytes({0x48, 0x61, 0x68, 0x21, 0x49, 0x64, 0x6f, 0x6e, 0x74, 0x4e, 0x65,
               0x65, 0x64, 0x45, 0x46, 0x49});

std::string GuidText(const Uuid& guid) {
  // The first three fields are little-endian on the disk.
  constexpr std::array<int, 16> kOrder = {3, 2, 1,  0,  5,  4,  7,  6,
                                          8, 9, 10, 11, 12, 13, 14, 15};
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (size_t i = 0; i < kOrder.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    const auto byte = static_cast<uint8_t>(guid[kOrder[i]]);
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

Task<Result<PartitionTable>> ReadPartitionTable(BlockDevice& device) {
  if (device.size_bytes() < uint64_t{3} * kSectorBytes)
    co_return PartitionTable{};
  auto first = co_await ReadTableSectors(device, 0, 2);
  if (!first) co_return first.error();
  const auto sector = first->span().first(kSectorBytes);
  const auto entries = MbrEntries(sector);
  const bool table = LooksLikeMbr(sector);
  if (IsProtectiveMbr(sector)) co_return co_await ReadGpt(device);
  const auto second = first->span().subspan(kSectorBytes).first<8>();
  if (LoadLe<uint64_t>(second) == kGptSignature) {
    co_return Corrupt("there is a GPT, but no protective MBR; repair it first");
  }
  const bool used = std::ranges::any_of(
      entries, [](const MbrEntry& entry) { return entry.type != 0; });
  if (!table || !used) co_return PartitionTable{};
  co_return co_await ReadMbr(device, sector);
}

}  // namespace bootstream
