#include "blockmap/disk/gpt.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <string_view>

#include "blockmap/base/coding.h"

namespace bootstream {
namespace {

constexpr uint32_t kGptHeaderBytes = 92;
constexpr uint32_t kGptEntryBytesMin = 128;
constexpr uint64_t kGptEntriesBytesMax = 1 << 20;
constexpr size_t kHeaderBytesOffset = 12;
constexpr size_t kCrcOffset = 16;
constexpr size_t kFieldsOffset = 24;

Error Corrupt(std::string_view what) {
  return Error{ErrorCode::kCorrupt, "partition table: " + std::string(what)};
}

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
  std::fill_n(copy.begin() + kCrcOffset, 4, std::byte{0});
  if (GptCrc32(copy) != crc) return Corrupt(which + ": bad checksum");
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
  partition.extent = {first * kSectorBytes, (last - first + 1) * kSectorBytes};
  for (int i = 0; i < 36; ++i) {
    const uint16_t unit = in.U16();
    if (unit == 0) break;
    AppendUtf8(partition.label, unit);
  }
  return std::optional<Partition>(std::move(partition));
}

}  // namespace

uint32_t GptCrc32(std::span<const std::byte> data) {
  uint32_t crc = ~0u;
  for (const std::byte byte : data) {
    crc ^= static_cast<uint32_t>(byte);
    for (int bit = 0; bit < 8; ++bit) {
      crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0xedb88320u : 0);
    }
  }
  return ~crc;
}

Task<Result<AlignedBuffer>> ReadTableSectors(BlockDevice& device, uint64_t lba,
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

Task<Result<GptCopy>> ReadGptCopy(BlockDevice& device, uint64_t lba) {
  auto sector = co_await ReadTableSectors(device, lba, 1);
  if (!sector) co_return sector.error();
  const auto header = ParseGptHeader(sector->span(), lba);
  if (!header) co_return header.error();
  auto entries = co_await ReadTableSectors(device, header->entries_lba,
                                           header->entries_sectors());
  if (!entries) co_return entries.error();
  if (GptCrc32(entries->span().first(header->entries_bytes())) !=
      header->entries_crc) {
    co_return Corrupt("entries of the GPT header at LBA " +
                      std::to_string(lba) + ": bad checksum");
  }
  co_return GptCopy{*header, std::move(*sector), std::move(*entries)};
}

AlignedBuffer EncodeGptHeader(const GptHeader& header,
                              std::span<const std::byte> like) {
  AlignedBuffer sector(kSectorBytes);
  std::memcpy(sector.data(), like.data(), kSectorBytes);
  std::vector<std::byte> fields;
  ByteWriter out(fields);
  out.U64(header.own_lba);
  out.U64(header.other_lba);
  out.U64(header.first_usable);
  out.U64(header.last_usable);
  out.Bytes(header.disk_guid);
  out.U64(header.entries_lba);
  out.U32(header.entry_count);
  out.U32(header.entry_bytes);
  out.U32(header.entries_crc);
  std::memcpy(sector.data() + kFieldsOffset, fields.data(), fields.size());
  const auto crc = sector.span().subspan<kCrcOffset, 4>();
  StoreLe(crc, uint32_t{0});
  const auto size =
      LoadLe<uint32_t>(sector.span().subspan<kHeaderBytesOffset, 4>());
  StoreLe(crc, GptCrc32(sector.span().first(size)));
  return sector;
}

Result<std::vector<Partition>> GptPartitions(const GptCopy& gpt) {
  std::vector<Partition> partitions;
  for (uint32_t i = 0; i < gpt.header.entry_count; ++i) {
    auto partition = ParseGptEntry(gpt, i);
    if (!partition) return partition.error();
    if (*partition) partitions.push_back(std::move(**partition));
  }
  if (auto s = CheckNoOverlap(partitions); !s) return s.error();
  return partitions;
}

}  // namespace bootstream
