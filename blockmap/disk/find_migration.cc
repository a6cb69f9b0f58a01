#include "blockmap/disk/find_migration.h"

#include <algorithm>
#include <cstring>

#include "blockmap/base/aligned_buffer.h"
#include "blockmap/map/map_store.h"

namespace bootstream {
namespace {

using TableId = std::array<std::byte, 16>;

// The id of the table that a firmware would see, from LBA 0 and 1 alone: a
// damaged backup must not hide a migration.
TableId IdOfTable(std::span<const std::byte> sectors) {
  TableId id{};
  const auto header = sectors.subspan(kSectorBytes);
  if (std::memcmp(header.data(), "EFI PART", 8) == 0) {
    std::memcpy(id.data(), header.data() + 56, id.size());
  } else if (sectors[510] == std::byte{0x55} &&
             sectors[511] == std::byte{0xaa}) {
    std::memcpy(id.data(), sectors.data() + 440, 4);
  }
  return id;
}

bool SameDisk(const DiskIdentity& known, uint64_t size_bytes,
              const Sha256& serial) {
  const Sha256 none{};
  if (known.size_bytes != size_bytes) return false;
  if (known.sector_bytes != kSectorBytes) return false;
  return known.serial_sha256 == none || serial == none ||
         known.serial_sha256 == serial;
}

struct Candidate {
  Uuid migration_id{};
  uint32_t chunk_bytes = 0;
  SuperblockChunks superblock_chunks{};
};

}  // namespace

Task<Result<FoundMigration>> FindMigration(BlockDevice& disk,
                                           const Sha256& serial_sha256) {
  FoundMigration found;
  const uint64_t size = disk.size_bytes();
  if (size < 2 * 1024 * 1024) co_return found;
  const auto places = AnchorCandidates(size);
  AlignedBuffer buffer(kAnchorBytes);
  std::vector<Anchor> anchors;
  constexpr std::array<int, 3> kOrder{0, 1, 0};
  for (const int which : kOrder) {
    const uint64_t offset = places[which];
    if (auto s = co_await disk.Read(offset, buffer.span()); !s) {
      co_return s.error();
    }
    if (which == 0 && !anchors.empty()) continue;  // the mark only
    Result<Anchor> anchor = DecodeAnchor(buffer.span());
    if (anchor) {
      anchors.push_back(*anchor);
    } else if (anchor.error().code == ErrorCode::kUnsupported) {
      co_return anchor.error();
    }
  }
  AlignedBuffer head(2 * kSectorBytes);
  if (auto s = co_await disk.Read(0, head.span()); !s) co_return s.error();
  const TableId table = IdOfTable(head.span());
  Result<Stub> stub = DecodeStub(head.span().first(kSectorBytes));
  if (!stub && stub.error().code == ErrorCode::kUnsupported) {
    co_return stub.error();
  }

  std::optional<Candidate> chosen;
  if (stub && SameDisk(stub->disk, size, serial_sha256)) {
    chosen = Candidate{stub->migration_id, stub->chunk_bytes,
                       stub->superblock_chunks};
    found.by_stub = true;
  }
  for (const Anchor& anchor : anchors) {
    const bool same_table = table == anchor.disk.source_table_id ||
                            table == anchor.target_table_id ||
                            (stub && stub->migration_id == anchor.migration_id);
    if (!SameDisk(anchor.disk, size, serial_sha256) || !same_table) {
      found.warnings.push_back(
          "an anchor of another disk or of an overwritten migration is "
          "ignored: size, serial number or partition table differ");
      continue;
    }
    if (chosen && chosen->migration_id != anchor.migration_id) {
      co_return Error{ErrorCode::kRefused,
                      "two different migrations claim this disk: boot the "
                      "agent and decide which one is to go"};
    }
    // The anchor is flipped when superblocks move; a stub never is.
    chosen = Candidate{anchor.migration_id, anchor.chunk_bytes,
                       anchor.superblock_chunks};
  }
  if (!chosen) co_return found;
  Result<Superblock> superblock = co_await MapStore::ReadSuperblock(
      disk, chosen->chunk_bytes, chosen->superblock_chunks);
  if (!superblock) {
    co_return Error{superblock.error().code == ErrorCode::kUnsupported
                        ? ErrorCode::kUnsupported
                        : ErrorCode::kCorrupt,
                    "the disk has an anchor, but what it leads to cannot be "
                    "read: " +
                        superblock.error().message};
  }
  if (superblock->migration_id != chosen->migration_id) {
    co_return Error{ErrorCode::kCorrupt,
                    "anchor and superblock belong to different migrations"};
  }
  found.superblock = std::move(*superblock);
  co_return found;
}

}  // namespace bootstream
