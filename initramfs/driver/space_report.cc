#include "initramfs/driver/space_report.h"

#include "blockmap/image/image_facts.h"
#include "blockmap/map/space_account.h"

namespace bootstream {
namespace {

using nlohmann::json;

struct PlacedChunks {
  uint64_t all = 0;
  uint64_t clean = 0;
};

PlacedChunks CountPlaced(const StreamEngine& engine) {
  PlacedChunks placed;
  engine.store().map().ForEach([&](ImageChunk chunk, const ChunkState& state) {
    if (!state.location.on_disk()) return;
    ++placed.all;
    placed.clean += engine.MayEvict(chunk, state);
  });
  return placed;
}

json Pair(uint64_t predicted, uint64_t actual) {
  return {{"predicted", predicted}, {"actual", actual}};
}

// What the plan has promised, before commit; and how it is.
json PlanReport(const SpaceFacts& facts, const StreamEngine& engine) {
  const MapStore& store = engine.store();
  const auto predicted = PredictSpace(store.superblock(), store.region(),
                                      KeptChunkCount(engine.manifest()));
  const uint64_t placed = engine.manifest().grid().chunk_count() - facts.absent;
  const uint64_t relocated = store.map().relocations().size();
  // Places that are only reserved just now count.
  const uint64_t metadata = store.region().chunk_count() -
                            store.region().free_count() - placed - relocated;
  return {{"relocations_at_most", Pair(predicted.relocations, relocated)},
          {"metadata_at_most", Pair(predicted.metadata, metadata)},
          {"room_for_image_at_least",
           Pair(predicted.room_for_image, placed + facts.free)}};
}

}  // namespace

SpaceFacts GatherSpaceFacts(const StreamEngine& engine, Executor::Duration now,
                            bool source_attached) {
  const Superblock& superblock = engine.store().superblock();
  const Region& region = engine.store().region();
  const PlacedChunks placed = CountPlaced(engine);
  const auto since = engine.room().waiting_since();
  SpaceFacts facts;
  facts.chunk_bytes = superblock.chunk_bytes;
  facts.region = region.chunk_count();
  facts.free = RoomForImage(superblock, region);
  facts.clean = placed.clean;
  facts.absent = engine.manifest().grid().chunk_count() - placed.all;
  facts.waiting_writes = engine.room().waiting();
  facts.stuck = since && now - *since >= kStuckAfter;
  facts.guaranteed = superblock.guaranteed;
  facts.give_up_source = superblock.give_up_source_when_full;
  facts.committed = superblock.committed;
  facts.rollback_wished = superblock.rollback_wished;
  facts.source_attached = source_attached;
  return facts;
}

json SpaceReport(const SpaceFacts& facts, const StreamEngine& engine) {
  return {{"level", SpaceLevelName(SpaceLevelOf(facts))},
          {"sentence", SpaceSentence(facts)},
          {"policy", facts.give_up_source ? "give-up-source" : "block"},
          {"guaranteed", facts.guaranteed},
          {"free_chunks", facts.free},
          {"clean_chunks", facts.clean},
          {"absent_chunks", facts.absent},
          {"waiting_writes", facts.waiting_writes},
          {"waited_writes", engine.room().waited()},
          {"plan", facts.committed ? json() : PlanReport(facts, engine)}};
}

void SpaceWarnings::Look(const SpaceFacts& facts) {
  const SpaceLevel level = SpaceLevelOf(facts);
  if (level > said_) say_(SpaceSentence(facts));
  if (level > said_ || level == SpaceLevel::kOk) said_ = level;
}

}  // namespace bootstream
