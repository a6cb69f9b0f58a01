#include "blockmap/disk/partition_table.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <string_view>

#include "blockmap/base/aligned_buffer.h"
#include "blockmap/base/coding.h"

namespace bootstream {
namespace {

constexpr uint8_t kMbrProtective = 0xee;
constexpr uint64_t kGptSignature = 0x5452415020494645;  // "EFI PART"
constexpr uint32_t kGptHeaderBytes = 92;
constexpr uint32_t kGptEntryBytesMin = 128;
constexpr uint64_t kGptEntriesBytesMax = 1 << 20;
constexpr size_t kMbrTableOffset = 446;
constexpr uint32_t kLogicalPartitionsMax = 128;

// CRC-32 as GPT uses it (ISO 3309, reflected).
uint32_t Crc32(std::span<const std::byte> data) {
  uint32_t crc = ~0u;
  for (const std::byte byte : data) {
    crc ^= static_cast<uint32_t>(byte);
    for (int bit = 0; bit < 8; ++bit) {
      crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0xedb88320u : 0);
    }
  }
  return ~crc;
}

Error Corrupt(std::string_view what) {
  return Error{ErrorCode::kCorrupt, "partition table: " + std::string(what)};
}

Task<Result<AlignedBuffer>> ReadSectors(BlockDevice& device, uint64_t lba,
                                        uint64_t count) {
  const uint64_t sectors = device.size_bytes() / kSectorBytes;
  if (lba >= sectors || count > sectors - lba) {
    co_return Corrupt("sector " + std::to_string(lba) + " is beyond the disk");
  }
  AlignedBuffer buffer(count * kSectorBytes);
  auto read = co_await device.Read(lba * kSectorBytes, buffer.span());
  if (!read) co_return Annotate(read.error(), "partition table");
  co_return std::move(buffer);
}

ByteExtent Sectors(uint64_t lba, uint64_t count) {
  return {lba * kSectorBytes, count * kSectorBytes};
}

struct MbrEntry {
  uint8_t status = 0;
  uint8_t type = 0;
  uint64_t first = 0;  // LBA; relative in an extended boot record
  uint64_t count = 0;
  bool extended() const { return type == 5 || type == 0xf || type == 0x85; }
};

std::array<MbrEntry, 4> MbrEntries(std::span<const std::byte> sector) {
  std::array<MbrEntry, 4> entries;
  ByteReader in(sector.subspan(kMbrTableOffset));
  for (MbrEntry& entry : entries) {
    entry.status = in.U8();
    in.Skip(3);
    entry.type = in.U8();
    in.Skip(3);
    entry.first = in.U32();
    entry.count = in.U32();
  }
  return entries;
}

bool HasBootSignature(std::span<const std::byte> sector) {
  return sector[510] == std::byte{0x55} && sector[511] == std::byte{0xaa};
}

// A boot sector that is a file system's, not a table's: its code lies where
// the entries would be.
bool LooksLikeTable(const std::array<MbrEntry, 4>& entries) {
  return std::ranges::all_of(entries, [](const MbrEntry& entry) {
    return entry.status == 0 || entry.status == 0x80;
  });
}

struct GptHeader {
  uint64_t own_lba = 0;
  uint64_t other_lba = 0;
  uint64_t first_usable = 0;
  uint64_t last_usable = 0;
  std::array<std::byte, 16> disk_guid{};
  uint64_t entries_lba = 0;
  uint32_t entry_count = 0;
  uint32_t entry_bytes = 0;
  uint32_t entries_crc = 0;
  uint64_t entries_bytes() const { return uint64_t{entry_count} * entry_bytes; }
  uint64_t entries_sectors() const {
    return (entries_bytes() + kSectorBytes - 1) / kSectorBytes;
  }
};

Result<GptHeader> ParseGptHeader(std::span<const std::byte> sector,
                                 uint64_t lba) {
  const std::string which = "GPT header at LBA " + std::to_string(lba);
  ByteReader in(sector);
  if (in.U64() != kGptSignature) return Corrupt(which + " is missing");
  in.Skip(4);  // revision
  const uint32_t header_bytes = in.U32();
  if (header_bytes < kGptHeaderBytes || header_bytes > kSectorBytes) {
    return Corrupt(which + ": bad size");
  }
  const uint32_t crc = in.U32();
  std::vector<std::byte> copy(sector.begin(), sector.begin() + header_bytes);
  std::fill_n(copy.begin() + 16, 4, std::byte{0});
  if (Crc32(copy) != crc) return Corrupt(which + ": bad checksum");
  in.Skip(4);
  GptHeader header;
  header.own_lba = in.U64();
  header.other_lba = in.U64();
  header.first_usable = in.U64();
  header.last_usable = in.U64();
  header.disk_guid = in.Array<16>();
  header.entries_lba = in.U64();
  header.entry_count = in.U32();
  header.entry_bytes = in.U32();
  header.entries_crc = in.U32();
  if (header.own_lba != lba) return Corrupt(which + " says it lies elsewhere");
  if (header.entry_bytes < kGptEntryBytesMin || header.entry_bytes % 8 != 0 ||
      header.entry_count == 0 || header.entries_bytes() > kGptEntriesBytesMax) {
    return Corrupt(which + ": impossible number or size of entries");
  }
  return header;
}

struct GptCopy {
  GptHeader header;
  AlignedBuffer entries;
  std::span<const std::byte> entry(uint32_t index) const {
    return entries.span().subspan(size_t{index} * header.entry_bytes,
                                  header.entry_bytes);
  }
};

Task<Result<GptCopy>> ReadGptCopy(BlockDevice& device, uint64_t lba) {
  auto sector = co_await ReadSectors(device, lba, 1);
  if (!sector) co_return sector.error();
  const auto header = ParseGptHeader(sector->span(), lba);
  if (!header) co_return header.error();
  auto entries = co_await ReadSectors(device, header->entries_lba,
                                      header->entries_sectors());
  if (!entries) co_return entries.error();
  if (Crc32(entries->span().first(header->entries_bytes())) !=
      header->entries_crc) {
    co_return Corrupt("entries of the GPT header at LBA " +
                      std::to_string(lba) + ": bad checksum");
  }
  co_return GptCopy{*header, std::move(*entries)};
}

void AppendUtf8(std::string& out, uint16_t unit) {
  if (unit < 0x80) {
    out += static_cast<char>(unit);
  } else if (unit < 0x800) {
    out += static_cast<char>(0xc0 | (unit >> 6));
    out += static_cast<char>(0x80 | (unit & 0x3f));
  } else if (unit >= 0xd800 && unit < 0xe000) {
    out += '?';  // a surrogate: no label that we know of has one
  } else {
    out += static_cast<char>(0xe0 | (unit >> 12));
    out += static_cast<char>(0x80 | ((unit >> 6) & 0x3f));
    out += static_cast<char>(0x80 | (unit & 0x3f));
  }
}

// nullopt: the entry is not in use.
Result<std::optional<Partition>> ParseGptEntry(const GptCopy& gpt,
                                               uint32_t index) {
  ByteReader in(gpt.entry(index));
  Partition partition;
  partition.number = index + 1;
  partition.type_guid = in.Array<16>();
  partition.guid = in.Array<16>();
  const uint64_t first = in.U64();
  const uint64_t last = in.U64();
  in.Skip(8);
  if (partition.type_guid == Uuid{}) return std::optional<Partition>();
  if (first < gpt.header.first_usable || last > gpt.header.last_usable ||
      first > last) {
    return Corrupt("partition " + std::to_string(partition.number) +
                   " lies outside the usable sectors");
  }
  partition.extent = Sectors(first, last - first + 1);
  for (int i = 0; i < 36; ++i) {
    const uint16_t unit = in.U16();
    if (unit == 0) break;
    AppendUtf8(partition.label, unit);
  }
  return std::optional<Partition>(std::move(partition));
}

Status CheckOverlap(const std::vector<Partition>& partitions) {
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
  for (uint32_t i = 0; i < primary->header.entry_count; ++i) {
    auto partition = ParseGptEntry(*primary, i);
    if (!partition) co_return partition.error();
    if (*partition) table.partitions.push_back(std::move(**partition));
  }
  if (auto s = CheckOverlap(table.partitions); !s) co_return s.error();
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
    auto sector = co_await ReadSectors(device, lba, 1);
    if (!sector) co_return sector.error();
    if (!HasBootSignature(sector->span())) {
      co_return Corrupt("extended boot record at LBA " + std::to_string(lba) +
                        " is missing");
    }
    table.table_extents.push_back(Sectors(lba, 1));
    const auto entries = MbrEntries(sector->span());
    if (entries[0].type != 0 && entries[0].count != 0) {
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
    if (entries[i].type == 0 || entries[i].count == 0) continue;
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
  if (auto s = CheckOverlap(table.partitions); !s) co_return s.error();
  table.table_extents.push_back(Sectors(0, 1));
  co_return table;
}

constexpr Uuid GuidBytes(std::array<uint8_t, 16> bytes) {
  Uuid out{};
  for (size_t i = 0; i < out.size(); ++i) out[i] = std::byte{bytes[i]};
  return out;
}

}  // namespace

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
  auto first = co_await ReadSectors(device, 0, 2);
  if (!first) co_return first.error();
  const auto sector = first->span().first(kSectorBytes);
  const auto entries = MbrEntries(sector);
  const bool table = HasBootSignature(sector) && LooksLikeTable(entries);
  const bool protective =
      table && std::ranges::any_of(entries, [](const MbrEntry& entry) {
        return entry.type == kMbrProtective;
      });
  if (protective) co_return co_await ReadGpt(device);
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
