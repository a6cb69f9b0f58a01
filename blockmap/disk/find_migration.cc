#include "blockmap/disk/find_migration.h"

#include <array>
#include <utility>

#include "blockmap/base/aligned_buffer.h"
#include "blockmap/map/map_store.h"

namespace bootstream {
namespace {

bool SameDisk(const DiskIdentity& known, uint64_t size_bytes,
              const Sha256& serial) {
  const Sha256 none{};
  if (known.size_bytes != size_bytes) return false;
  if (known.sector_bytes != kSectorBytes) return false;
  return known.serial_sha256 == none || serial == none ||
         known.serial_sha256 == serial;
}

// From the first write to the table until the source's is back: the disk is not
// what a raw look at it shows.
bool IsAlive(Phase phase) {
  return phase >= Phase::kStubbed && phase <= Phase::kRollingBack;
}

std::string Where(uint64_t offset) {
  return "the anchor at byte " + std::to_string(offset);
}

// What claims the disk.
struct Claim {
  Uuid migration_id{};
  uint32_t chunk_bytes = 0;
  SuperblockChunks superblock_chunks{};
};

class Finder {
 public:
  Finder(BlockDevice& disk, const Sha256& serial_sha256)
      : disk_(disk), serial_sha256_(serial_sha256) {}
  Task<Result<FoundMigration>> Find();

 private:
  Task<Status> ReadAnchors();
  Task<Status> ReadHead();
  std::optional<Claim> Sort(uint64_t offset, const Anchor& anchor);
  Task<Status> Choose(uint64_t offset, const Claim& claim);
  Task<Result<Superblock>> Follow(const Claim& claim);
  Task<bool> IsStale(const Claim& claim, const Uuid& current);
  Task<Status> JudgeForeign(uint64_t offset, const Anchor& anchor);
  void Doubt(ErrorCode code, std::string why);

  BlockDevice& disk_;
  const Sha256 serial_sha256_;
  FoundMigration found_;
  std::vector<std::pair<uint64_t, Anchor>> anchors_;
  std::vector<std::pair<uint64_t, Anchor>> foreign_;
  TableId table_{};
  std::optional<Stub> stub_;
  std::optional<Claim> chosen_;
};

Task<Result<FoundMigration>> Finder::Find() {
  if (disk_.size_bytes() < uint64_t{2} << 20) co_return std::move(found_);
  Status s = co_await ReadAnchors();
  if (s) s = co_await ReadHead();
  if (!s) co_return s.error();
  for (const auto& [offset, anchor] : anchors_) {
    const std::optional<Claim> claim = Sort(offset, anchor);
    if (claim && anchor.leaving) {
      found_.leaving = FoundMigration::Leaving{offset, anchor};
      co_return std::move(found_);
    }
    if (claim) s = co_await Choose(offset, *claim);
    if (!s) co_return s.error();
  }
  if (chosen_) {
    Result<Superblock> superblock = co_await Follow(*chosen_);
    if (!superblock) co_return superblock.error();
    found_.superblock = std::move(*superblock);
    found_.doubt.reset();
  }
  for (const auto& [offset, anchor] : foreign_) {
    s = co_await JudgeForeign(offset, anchor);
    if (!s) co_return s.error();
  }
  co_return std::move(found_);
}

// In the order A, B, A, which is the mark of the driver in a boot's trace.
Task<Status> Finder::ReadAnchors() {
  const auto places = AnchorCandidates(disk_.size_bytes());
  constexpr std::array<int, 3> kOrder{0, 1, 0};
  for (int turn = 0; turn < 3; ++turn) {
    const uint64_t offset = places[kOrder[turn]];
    const Result<Anchor> anchor = co_await ReadAnchor(disk_, offset);
    if (turn == 2) break;  // the mark only
    if (anchor) {
      anchors_.emplace_back(offset, *anchor);
    } else if (anchor.error().code == ErrorCode::kUnsupported) {
      co_return anchor.error();
    } else if (anchor.error().code == ErrorCode::kIo) {
      Doubt(ErrorCode::kCorrupt,
            "the place of " + Where(offset) + " cannot be read (" +
                anchor.error().message +
                "), so whether a migration is on this disk is not known");
    } else if (anchor.error().code == ErrorCode::kCorrupt) {
      Doubt(ErrorCode::kCorrupt,
            Where(offset) +
                " is damaged: a migration is, or was, on this disk. If it is "
                "none any more, zero the 4096 bytes there");
    }
  }
  co_return OkStatus();
}

Task<Status> Finder::ReadHead() {
  AlignedBuffer head(kTableHeadBytes);
  if (auto s = co_await disk_.Read(0, head.span()); !s) co_return s;
  table_ = TableIdOf(head.span());
  Result<Stub> stub = DecodeStub(head.span().first(kSectorBytes));
  if (!stub) {
    if (stub.error().code == ErrorCode::kUnsupported) co_return stub.error();
    co_return OkStatus();
  }
  stub_ = *stub;
  if (SameDisk(stub->disk, disk_.size_bytes(), serial_sha256_)) {
    chosen_ =
        Claim{stub->migration_id, stub->chunk_bytes, stub->superblock_chunks};
    found_.by_stub = true;
  }
  co_return OkStatus();
}

// The claim of an anchor that matches.
std::optional<Claim> Finder::Sort(uint64_t offset, const Anchor& anchor) {
  if (!SameDisk(anchor.disk, disk_.size_bytes(), serial_sha256_)) {
    found_.warnings.push_back(Where(offset) +
                              " is of another disk and is ignored: size or "
                              "serial number differ");
    return std::nullopt;
  }
  const bool same_table =
      table_ == anchor.disk.source_table_id ||
      table_ == anchor.target_table_id ||
      (table_ == anchor.previous_table_id && table_ != TableId{}) ||
      (stub_ && stub_->migration_id == anchor.migration_id);
  if (!same_table) {
    foreign_.emplace_back(offset, anchor);
    return std::nullopt;
  }
  return Claim{anchor.migration_id, anchor.chunk_bytes,
               anchor.superblock_chunks};
}

Task<Status> Finder::Choose(uint64_t offset, const Claim& claim) {
  if (!chosen_ || chosen_->migration_id == claim.migration_id) {
    // The anchor is flipped when superblocks move; a stub never is.
    chosen_ = claim;
    co_return OkStatus();
  }
  const bool stale = co_await IsStale(claim, chosen_->migration_id);
  if (stale) {
    found_.warnings.push_back(Where(offset) +
                              " is of an older migration and is ignored");
    co_return OkStatus();
  }
  const bool old_is_stale = co_await IsStale(*chosen_, claim.migration_id);
  if (old_is_stale) {
    found_.warnings.push_back("what leads to an older migration is ignored: " +
                              Where(offset) + " is that of a newer one");
    found_.by_stub = false;
    chosen_ = claim;
    co_return OkStatus();
  }
  co_return Error{ErrorCode::kRefused,
                  "two different migrations claim this disk: boot the agent "
                  "and decide which one is to go"};
}

// The places that the claim names are in use by `current` now.
Task<bool> Finder::IsStale(const Claim& claim, const Uuid& current) {
  const Result<Superblock> superblock = co_await MapStore::ReadSuperblock(
      disk_, claim.chunk_bytes, claim.superblock_chunks);
  co_return superblock && superblock->migration_id == current;
}

Task<Result<Superblock>> Finder::Follow(const Claim& claim) {
  Result<Superblock> superblock = co_await MapStore::ReadSuperblock(
      disk_, claim.chunk_bytes, claim.superblock_chunks);
  if (!superblock) {
    co_return Error{superblock.error().code == ErrorCode::kUnsupported
                        ? ErrorCode::kUnsupported
                        : ErrorCode::kCorrupt,
                    "the disk has an anchor, but what it leads to cannot be "
                    "read: " +
                        superblock.error().message};
  }
  if (superblock->migration_id != claim.migration_id) {
    co_return Error{ErrorCode::kCorrupt,
                    "anchor and superblock belong to different migrations"};
  }
  co_return superblock;
}

// Disk and migration agree, the partition table does not: another tool has
// imaged the disk, or has changed the table of a disk that is streamed.  In the
// second case the raw disk has holes.
Task<Status> Finder::JudgeForeign(uint64_t offset, const Anchor& anchor) {
  const Claim claim{anchor.migration_id, anchor.chunk_bytes,
                    anchor.superblock_chunks};
  const Result<Superblock> superblock = co_await Follow(claim);
  if (!superblock && superblock.error().code == ErrorCode::kUnsupported) {
    co_return superblock.error();
  }
  if (superblock && IsAlive(superblock->phase) && !found_.superblock) {
    Doubt(ErrorCode::kRefused,
          "this disk is on its way to " + superblock->image_name + " (" +
              std::string(PhaseName(superblock->phase)) +
              "), but its partition table was changed by something else: put "
              "the table's old identifier back; or, if the disk was written "
              "anew by another tool, zero the 4096 bytes of " +
              Where(offset));
    co_return OkStatus();
  }
  found_.warnings.push_back(Where(offset) +
                            " is of an overwritten migration and is ignored: "
                            "the partition table differs");
  co_return OkStatus();
}

void Finder::Doubt(ErrorCode code, std::string why) {
  if (!found_.doubt) found_.doubt = Error{code, std::move(why)};
}

}  // namespace

Result<std::optional<Superblock>> WithoutDoubt(const FoundMigration& found) {
  if (!found.superblock && found.doubt) return *found.doubt;
  if (found.leaving) {
    return Error{ErrorCode::kRefused,
                 "the new system has settled on this disk, and the driver was "
                 "leaving it when it was stopped: start the new system once, "
                 "which ends that"};
  }
  return found.superblock;
}

Task<Result<FoundMigration>> FindMigration(BlockDevice& disk,
                                           const Sha256& serial_sha256) {
  Finder finder(disk, serial_sha256);
  co_return co_await finder.Find();
}

}  // namespace bootstream
