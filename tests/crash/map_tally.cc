#include "tests/crash/map_tally.h"

#include <algorithm>
#include <set>

#include "blockmap/base/coding.h"
#include "blockmap/image/image_facts.h"
#include "blockmap/map/journal.h"

namespace bootstream {
namespace {

constexpr uint32_t kChunk = Scene::kChunk;
constexpr size_t kJournalHeaderBytes = 16;  // of a block: format.md 2.6

Result<Superblock> FindAny(std::span<const std::byte> bytes,
                           BlockDevice& disk) {
  for (size_t at = 0; at + kSuperblockSlotsBytes <= bytes.size();
       at += kChunk) {
    for (const size_t slot : {size_t{0}, size_t{kSuperblockBytes}}) {
      const auto one =
          DecodeSuperblock(bytes.subspan(at + slot, kSuperblockBytes));
      if (!one) continue;
      return RunInline(
          MapStore::ReadSuperblock(disk, kChunk, one->superblock_chunks));
    }
  }
  return Error{ErrorCode::kNotFound, "no superblock"};
}

// Follows a map by what is written to its disk.
class MapWatcher {
 public:
  MapWatcher(std::span<const std::byte> base, const Scene& scene)
      : scene_(scene) {
    ScratchDisk disk({base.begin(), base.end()});
    std::vector<DiskChunk> chunks;
    for (uint64_t c = 0; c < base.size() / kChunk; ++c) chunks.push_back({c});
    const auto found = FindAny(base, disk);
    if (!found) return;
    superblock_ = *found;
    next_sequence_ = found->journal_sequence;
    for (const DiskChunk chunk : chunks) {
      NoteHeader(chunk.value, base.subspan(chunk.value * kChunk, kBlockBytes));
    }
    LoadMap(disk);
  }

  void Take(const Recording::Write& write) {
    const uint64_t chunk = write.offset / kChunk;
    const uint64_t inside = write.offset % kChunk;
    const std::span<const std::byte> data(write.data);
    if (data.size() < kBlockBytes || inside % kBlockBytes != 0) return;
    if (auto s = DecodeSuperblock(data.first(kSuperblockBytes)); s) {
      TakeSuperblock(*s);
    }
    if (inside == 0) {
      NoteHeader(chunk, data.first(kBlockBytes));
    } else if (journals_.contains(chunk)) {
      for (size_t at = 0; at + kBlockBytes <= data.size(); at += kBlockBytes) {
        TakeBlock(data.subspan(at, kBlockBytes));
      }
    }
  }

  const Tally& tally() const { return tally_; }

 private:
  void LoadMap(BlockDevice& disk) {
    const auto store = RunInline(MapStore::Open(
        disk, superblock_, FactsOf(scene_.manifest), /*read_only=*/true));
    if (!store) return;
    const BlockMap& map = (*store)->map();
    map.ForEach([&](ImageChunk c, const ChunkState& s) { map_.Set(c, s); });
    map.ForEachPatch(
        [&](ImageChunk c, const Patch& p) { map_.AddPatch(c, p); });
    for (const auto& [source, now] : map.relocations()) {
      map_.SetRelocation(source, now);
    }
  }

  void NoteHeader(uint64_t chunk, std::span<const std::byte> block) {
    const auto header = DecodeChainHeader(block);
    if (header && header->name.kind == ChainKind::kJournal) {
      journals_.insert(chunk);
    } else {
      journals_.erase(chunk);
    }
  }

  void TakeSuperblock(const Superblock& now) {
    const Superblock before = std::exchange(superblock_, now);
    if (now.migration_id != before.migration_id) {
      map_ = BlockMap();
      next_sequence_ = now.journal_sequence;
      return;
    }
    Count("checkpoints", now.checkpoint_epoch != before.checkpoint_epoch);
    Count("manifest moves", now.manifest_epoch != before.manifest_epoch);
    Count("superblock moves",
          now.superblock_chunks != before.superblock_chunks);
  }

  // What only looks like a block of the journal has another sequence.
  void TakeBlock(std::span<const std::byte> block) {
    constexpr uint64_t kAheadMax = 10000;
    const auto size = LoadLe<uint16_t>(block.subspan<4, 2>());
    const auto sequence = LoadLe<uint64_t>(block.subspan<8, 8>());
    if (size > kJournalPayloadBytes || sequence < next_sequence_ ||
        sequence > next_sequence_ + kAheadMax) {
      return;
    }
    const auto records =
        DecodeRecords(block.subspan(kJournalHeaderBytes, size));
    if (!records) return;
    next_sequence_ = sequence + 1;
    for (const Record& record : *records) {
      std::visit([this](const auto& r) { TakeRecord(r); }, record);
    }
  }

  void TakeRecord(const SetRecord& record) {
    const auto& [chunk, now] = record;
    const ChunkState before = map_.Get(chunk);
    const bool is_gone = now.location.is_absent() && before.location.on_disk();
    const bool is_zero = scene_.manifest->IsZero(chunk);
    Count("evictions", is_gone && !is_zero);
    Count("discards", (is_gone && is_zero) || (now.location.is_zero() &&
                                               !before.location.is_zero()));
    Count("moves home", before.location.on_disk() &&
                            before.location != now.location &&
                            now.location == Location::At(HomeOf(chunk)));
    Count("downloads stored", (now.valid & ~now.dirty & ~before.valid) != 0);
    const uint64_t patches = map_.patch_count();
    map_.Set(chunk, now);
    if (now.location.on_disk()) {
      Count("patches merged", patches - map_.patch_count());
    }
  }
  void TakeRecord(const RelocationRecord& record) {
    const bool was_away = map_.Relocated(record.source).has_value();
    Count("relocations", record.now && !was_away);
    Count("source chunks back", !record.now);
    map_.SetRelocation(record.source, record.now);
  }
  void TakeRecord(const PatchRecord& record) {
    Count("patches", 1);
    map_.AddPatch(record.chunk, record.patch);
  }
  void TakeRecord(const ContinueRecord&) { Count("journal switches", 1); }

  void Count(const char* what, uint64_t times) {
    if (times != 0) tally_[what] += times;
  }

  const Scene& scene_;
  Superblock superblock_;
  BlockMap map_;
  std::set<uint64_t> journals_;  // chunks with a header of one
  uint64_t next_sequence_ = 0;
  Tally tally_;
};

}  // namespace

Tally TallyOfMap(std::span<const std::byte> base, const Recording& recording,
                 const Scene& scene) {
  MapWatcher watcher(base, scene);
  for (const auto& write : recording.writes) watcher.Take(write);
  return watcher.tally();
}

}  // namespace bootstream
