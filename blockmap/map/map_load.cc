#include "blockmap/map/map_load.h"

#include <algorithm>
#include <string>
#include <utility>

#include "blockmap/map/chain.h"

namespace bootstream {
namespace {

Error Corrupt(std::string why) {
  return Error{ErrorCode::kCorrupt, "map: " + std::move(why)};
}

Task<Status> LoadCheckpoint(BlockDevice& device, const Superblock& sb,
                            LoadedMap& loaded) {
  const MapLimits limits = LimitsOf(sb);
  const ChainName name{ChainKind::kCheckpoint, sb.migration_id,
                       sb.checkpoint_epoch};
  auto chain = co_await ReadChain(device, limits.disk, name,
                                  sb.checkpoint_chunk, /*with_payload=*/true);
  if (!chain) co_return chain.error();
  auto contents = DecodeCheckpoint(chain->payload, limits);
  if (!contents) co_return contents.error();
  uint64_t region_chunks = 0;
  for (const DiskExtent& extent : contents->region) {
    region_chunks += extent.count;
  }
  if (region_chunks != sb.region_chunk_count) {
    co_return Corrupt("the checkpoint's region is not the superblock's");
  }
  loaded.contents = std::move(*contents);
  loaded.checkpoint_chunks = std::move(chain->chunks);
  co_return OkStatus();
}

Task<Status> LoadJournals(BlockDevice& device, const Superblock& sb,
                          uint64_t until_sequence, LoadedMap& loaded) {
  const MapLimits limits = LimitsOf(sb);
  const auto apply = [&](const Record& record) {
    return ApplyRecord(record, limits, loaded.contents.map);
  };
  JournalPlace place;
  place.name = {ChainKind::kJournal, sb.migration_id, sb.journal_epoch};
  DiskChunk head = sb.journal_chunk;
  loaded.next_epoch = sb.next_epoch;
  for (;;) {
    auto chain = co_await ReadChain(device, limits.disk, place.name, head,
                                    /*with_payload=*/false);
    if (!chain) co_return chain.error();
    const bool is_first = loaded.journals.empty();
    if (is_first ? chain->first_sequence > sb.journal_sequence
                 : chain->first_sequence != loaded.end.sequence) {
      co_return Corrupt("a journal begins at the wrong sequence");
    }
    place.chunks = std::move(chain->chunks);
    const auto end = co_await ReplayJournal(
        device, sb.chunk_bytes, place, chain->first_sequence,
        sb.journal_sequence, apply, until_sequence);
    if (!end) co_return end.error();
    loaded.end = end->position;
    loaded.journals.push_back(place);
    loaded.next_epoch = std::max(loaded.next_epoch, place.name.epoch + 1);
    if (!end->next) co_return OkStatus();
    // Epochs grow, so this ends.
    if (end->next->epoch <= place.name.epoch) {
      co_return Corrupt("a journal continues in an older one");
    }
    place.name.epoch = end->next->epoch;
    head = end->next->chunk;
  }
}

}  // namespace

MapLimits LimitsOf(const Superblock& superblock) {
  return {Grid{superblock.chunk_bytes, superblock.image_bytes},
          Grid{superblock.chunk_bytes, superblock.disk.size_bytes}};
}

Task<Status> LoadMap(BlockDevice& device, const Superblock& superblock,
                     LoadedMap& loaded, uint64_t until_sequence) {
  Status status = co_await LoadCheckpoint(device, superblock, loaded);
  if (status) {
    status = co_await LoadJournals(device, superblock, until_sequence, loaded);
  }
  co_return status;
}

}  // namespace bootstream
