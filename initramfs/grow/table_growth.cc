#include "initramfs/grow/table_growth.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <string>
#include <utility>

#include "blockmap/base/coding.h"
#include "blockmap/disk/mbr.h"

namespace bootstream {
namespace {

constexpr uint64_t kAlignSectors = (1 << 20) / kSectorBytes;
constexpr uint64_t kMbrSectorsMax = uint64_t{1} << 32;
constexpr uint64_t kEntriesLba = 2;  // where everybody has them

Error Corrupt(const std::string& what) {
  return Error{ErrorCode::kCorrupt, "partition table: " + what};
}

AlignedBuffer CopyOf(std::span<const std::byte> bytes) {
  AlignedBuffer copy(bytes.size());
  std::memcpy(copy.data(), bytes.data(), bytes.size());
  return copy;
}

TableWrite WriteAt(uint64_t lba, std::span<const std::byte> data) {
  return {lba * kSectorBytes, CopyOf(data)};
}

// A step of one write.
TableStep Alone(uint64_t lba, std::span<const std::byte> data) {
  TableStep step;
  step.push_back(WriteAt(lba, data));
  return step;
}

// Where the last partition ends in sectors, if it may reach up to `limit`.
uint64_t GrownEnd(const Partition& last, uint64_t limit) {
  return std::max(last.extent.end() / kSectorBytes,
                  limit / kAlignSectors * kAlignSectors);
}

// The places of a GPT's parts on a disk of `sectors`.
struct Places {
  uint64_t last = 0;     // sector of the disk, and header of the second copy
  uint64_t entries = 0;  // of the first copy
  uint64_t backup_entries = 0;
  uint64_t last_usable = 0;
};

Result<Places> PlacesFor(const GptHeader& header, uint64_t sectors) {
  const uint64_t size = header.entries_sectors();
  if (sectors < 2 * size + 4) return Corrupt("the disk has no room for it");
  Places places;
  places.last = sectors - 1;
  places.backup_entries = places.last - size;
  places.last_usable = places.backup_entries - 1;
  const bool usual = header.own_lba == 1 && header.entries_lba >= kEntriesLba &&
                     header.entries_lba < header.first_usable;
  places.entries = usual ? header.entries_lba : kEntriesLba;
  if (header.first_usable > header.last_usable ||
      header.last_usable > places.last_usable ||
      (header.own_lba == 1 && header.other_lba > places.last)) {
    return Corrupt("the GPT is one for a larger disk; repair it first");
  }
  const bool between = header.entries_lba != places.backup_entries &&
                       header.entries_lba + size > places.backup_entries;
  if (between || places.entries + size > header.first_usable) {
    return Corrupt("the parts of the GPT overlap; repair it first");
  }
  return places;
}

// The protective MBR says how large the disk is (UEFI specification 2.10, table
// 5.4), unless somebody has made something else of it.
std::optional<AlignedBuffer> ProtectiveMbr(std::span<const std::byte> lba0,
                                           uint64_t last) {
  const auto entries = MbrEntries(lba0);
  const bool plain =
      HasBootSignature(lba0) && entries[0].type == kMbrProtective &&
      entries[0].first == 1 &&
      std::all_of(entries.begin() + 1, entries.end(),
                  [](const MbrEntry& entry) { return entry.type == 0; });
  const uint64_t count = std::min<uint64_t>(last, UINT32_MAX);
  if (!plain || entries[0].count == count || entries[0].count == UINT32_MAX) {
    return std::nullopt;
  }
  AlignedBuffer sector = CopyOf(lba0);
  SetMbrEntryCount(sector.span(), 0, count);
  return sector;
}

// Headers and entries of the new table.
struct NewGpt {
  AlignedBuffer entries;
  AlignedBuffer backup;   // headers:
  AlignedBuffer interim;  // LBA 1 with the second copy's entries
  AlignedBuffer primary;
};

NewGpt MakeGpt(const TableToGrow& table, const Places& places, uint64_t end) {
  NewGpt made;
  made.entries = CopyOf(table.gpt.entries.span());
  GptHeader header = table.gpt.header;
  if (const Partition* last = table.last(); last != nullptr) {
    const size_t at =
        size_t{last->number - 1} * header.entry_bytes + kGptEntryLastLba;
    StoreLe(made.entries.span().subspan(at).first<8>(), end - 1);
  }
  header.last_usable = places.last_usable;
  header.entries_crc =
      GptCrc32(made.entries.span().first(header.entries_bytes()));
  header.own_lba = places.last;
  header.other_lba = 1;
  header.entries_lba = places.backup_entries;
  const auto like = table.gpt.sector.span();
  made.backup = EncodeGptHeader(header, like);
  std::swap(header.own_lba, header.other_lba);
  made.interim = EncodeGptHeader(header, like);
  header.entries_lba = places.entries;
  made.primary = EncodeGptHeader(header, like);
  return made;
}

Result<TableGrowth> PlanGpt(const TableToGrow& table, bool grow_last) {
  const GptHeader& header = table.gpt.header;
  const auto places = PlacesFor(header, table.disk_bytes / kSectorBytes);
  if (!places) return places.error();
  TableGrowth growth;
  uint64_t end = 0;
  if (const Partition* last = table.last(); last != nullptr) {
    end = grow_last ? GrownEnd(*last, places->last_usable + 1)
                    : last->extent.end() / kSectorBytes;
    growth.last = {last->extent.offset,
                   end * kSectorBytes - last->extent.offset};
  }
  const NewGpt made = MakeGpt(table, *places, end);
  growth.steps.push_back(Alone(places->backup_entries, made.entries.span()));
  growth.steps.back().push_back(WriteAt(places->last, made.backup.span()));
  const uint64_t old = header.own_lba == 1 ? header.other_lba : places->last;
  if (old > header.last_usable && old < places->backup_entries) {
    growth.steps.push_back(Alone(old, AlignedBuffer(kSectorBytes).span()));
  }
  growth.steps.push_back(Alone(1, made.interim.span()));
  growth.steps.push_back(Alone(places->entries, made.entries.span()));
  growth.steps.push_back(Alone(1, made.primary.span()));
  if (auto mbr = ProtectiveMbr(table.lba0.span(), places->last)) {
    growth.steps.push_back(Alone(0, mbr->span()));
  }
  return growth;
}

Result<TableGrowth> PlanMbr(const TableToGrow& table, bool grow_last) {
  TableGrowth growth;
  const Partition* const last = table.last();
  if (last == nullptr) return growth;
  growth.last = last->extent;
  if (!grow_last) return growth;
  if (last->number > 4) {
    return Error{ErrorCode::kUnsupported,
                 "the last partition, " + std::to_string(last->number) +
                     ", is a logical one of an MBR; only a primary one can be "
                     "grown"};
  }
  for (const MbrEntry& entry : MbrEntries(table.lba0.span())) {
    if (!entry.used() || entry.first * kSectorBytes <= last->extent.offset) {
      continue;
    }
    return Error{
        ErrorCode::kUnsupported,
        "behind the last partition, " + std::to_string(last->number) +
            ", lies an empty extended one of the MBR; remove it first"};
  }
  const uint64_t first = last->extent.offset / kSectorBytes;
  const uint64_t limit =
      std::min(table.disk_bytes / kSectorBytes, kMbrSectorsMax);
  const uint64_t end = GrownEnd(*last, limit);
  if (end * kSectorBytes == last->extent.end()) return growth;
  growth.last.size = (end - first) * kSectorBytes;
  AlignedBuffer sector = CopyOf(table.lba0.span());
  SetMbrEntryCount(sector.span(), last->number - 1, end - first);
  growth.steps.push_back(Alone(0, sector.span()));
  return growth;
}

}  // namespace

const Partition* TableToGrow::last() const {
  const auto found = std::ranges::max_element(
      partitions, {}, [](const Partition& p) { return p.extent.end(); });
  return found == partitions.end() ? nullptr : &*found;
}

Task<Result<TableToGrow>> ReadTableToGrow(BlockDevice& disk) {
  TableToGrow table;
  table.disk_bytes = disk.size_bytes() / kSectorBytes * kSectorBytes;
  auto lba0 = co_await ReadTableSectors(disk, 0, 1);
  if (!lba0) co_return lba0.error();
  table.lba0 = std::move(*lba0);
  auto gpt = co_await ReadGptCopy(disk, 1);
  if (!IsProtectiveMbr(table.lba0.span())) {
    if (gpt) co_return Corrupt("there is a GPT, but no protective MBR");
    auto found = co_await ReadPartitionTable(disk);
    if (!found) co_return found.error();
    if (found->type == TableType::kNone) {
      co_return Error{ErrorCode::kNotFound, "the disk has no partition table"};
    }
    table.type = found->type;
    table.partitions = std::move(found->partitions);
    co_return table;
  }
  if (!gpt) {
    const uint64_t last = table.disk_bytes / kSectorBytes - 1;
    auto backup = co_await ReadGptCopy(disk, last);
    if (!backup) co_return gpt.error();
    gpt = std::move(backup);
  }
  table.type = TableType::kGpt;
  table.gpt = std::move(*gpt);
  auto partitions = GptPartitions(table.gpt);
  if (!partitions) co_return partitions.error();
  table.partitions = std::move(*partitions);
  co_return table;
}

Result<TableGrowth> PlanTableGrowth(const TableToGrow& table, bool grow_last) {
  return table.type == TableType::kGpt ? PlanGpt(table, grow_last)
                                       : PlanMbr(table, grow_last);
}

Task<Result<bool>> IsGrown(BlockDevice& disk, const TableGrowth& growth) {
  std::map<uint64_t, const TableWrite*> ends;  // what each place is in the end
  for (const TableStep& step : growth.steps) {
    for (const TableWrite& write : step) ends[write.offset] = &write;
  }
  for (const auto& [offset, write] : ends) {
    AlignedBuffer there(write->data.size());
    auto read = co_await disk.Read(offset, there.span());
    if (!read) co_return Annotate(read.error(), "partition table");
    if (!std::ranges::equal(there.span(), write->data.span())) co_return false;
  }
  co_return true;
}

Task<Status> WriteTableGrowth(BlockDevice& disk, const TableGrowth& growth) {
  for (const TableStep& step : growth.steps) {
    for (const TableWrite& write : step) {
      auto written = co_await disk.Write(write.offset, write.data.span());
      if (!written) co_return Annotate(written.error(), "partition table");
    }
    auto flushed = co_await disk.Flush();
    if (!flushed) co_return Annotate(flushed.error(), "partition table");
  }
  co_return OkStatus();
}

}  // namespace bootstream
