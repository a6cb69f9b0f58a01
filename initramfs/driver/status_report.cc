#include "initramfs/driver/status_report.h"

#include <unistd.h>

#include <bit>

namespace bootstream {
namespace {

using nlohmann::json;

json ChunkCounts(const StreamEngine& engine) {
  const Manifest& manifest = engine.manifest();
  const Grid grid = manifest.grid();
  uint64_t local = 0;
  uint64_t dirty_blocks = 0;
  uint64_t in_region = 0;
  engine.store().map().ForEach([&](ImageChunk chunk, const ChunkState& state) {
    const uint64_t all = grid.full_mask(chunk.value);
    const bool whole = state.location.is_zero() || state.valid == all;
    if (whole && !manifest.IsZero(chunk)) ++local;
    dirty_blocks += static_cast<uint64_t>(
        std::popcount(state.location.is_zero() ? all : state.dirty));
    if (state.location.on_disk() && state.location.chunk() != HomeOf(chunk)) {
      ++in_region;
    }
  });
  uint64_t patches = 0;
  engine.store().map().ForEachPatch(
      [&](ImageChunk, const Patch&) { ++patches; });
  const uint64_t data = manifest.data_chunk_count();
  return {{"data", data},
          {"local", local},
          {"missing", data - local},
          {"dirty_blocks", dirty_blocks},
          {"patches", patches},
          {"in_region", in_region},
          {"relocated", engine.store().map().relocations().size()}};
}

json RegionReport(const Region& region) {
  json extents = json::array();
  for (const DiskExtent& extent : region.base()) {
    extents.push_back({extent.first, extent.count});
  }
  return {{"chunks", region.chunk_count()},
          {"free", region.free_count()},
          {"extents", std::move(extents)}};
}

json SourceReport(const FetchStatistics& source) {
  json troubles = json::object();
  for (size_t i = 0; i < source.troubles.size(); ++i) {
    troubles[std::string(kFetchTroubleNames[i])] = source.troubles[i];
  }
  return {{"requests", source.requests},
          {"bytes_received", source.bytes_received},
          {"bytes_refused", source.bytes_refused},
          {"chunks_delivered", source.chunks_delivered},
          {"digest_mismatches", source.digest_mismatches},
          {"retries", source.retries},
          {"troubles", std::move(troubles)},
          {"whole_files", source.whole_files},
          {"dated_certificates", source.dated_certificates},
          {"waiting", source.waiting},
          {"failure", source.last_failure}};
}

json EngineReport(const EngineStatistics& engine) {
  return {
      {"reads", engine.reads},
      {"writes", engine.writes},
      {"demand_misses", engine.demand_misses},
      {"demand_misses_stored_in_region", engine.demand_misses_stored_in_region},
      {"prefetched_chunks", engine.prefetched_chunks},
      {"evicted_chunks", engine.evicted_chunks},
      {"healed_chunks", engine.healed_chunks},
      {"io_errors", engine.io_errors},
      {"patches", engine.patches},
      {"intents", engine.intents}};
}

}  // namespace

json StatusReport(const DriverIdentity& identity, const StreamEngine& engine,
                  const FetchStatistics& source, const Backfill& backfill,
                  const Settler& settler, const BootHealth* health) {
  const Manifest& manifest = engine.manifest();
  const Superblock& superblock = engine.store().superblock();
  const Settler::Progress settling = settler.progress();
  return {
      {"phase", PhaseName(superblock.phase)},
      {"committed", superblock.committed},
      {"image",
       {{"name", manifest.content().name},
        {"version", manifest.content().version},
        {"digest", ToHex(manifest.digest())},
        {"bytes", manifest.content().image_bytes},
        {"chunk_bytes", manifest.content().chunk_bytes}}},
      {"grow", manifest.content().grow},
      {"device", identity.device},
      {"frontend", identity.frontend},
      {"disk", identity.disk},
      {"pid", ::getpid()},
      {"kept", identity.kept},
      {"restarts", identity.restarts},
      {"chunks", ChunkCounts(engine)},
      {"changes", CountChanges(engine)},
      {"region", RegionReport(engine.store().region())},
      {"backfill",
       {{"state", BackfillStateName(backfill.state())},
        {"bytes_per_second", backfill.limit_bytes_per_second()},
        {"failure", backfill.failure()}}},
      {"settle",
       {{"state", SettlerStateName(settler.state())},
        {"chunks", settling.chunks},
        {"settled", settling.settled},
        {"failure", settler.failure()}}},
      {"source", SourceReport(source)},
      {"engine", EngineReport(engine.statistics())},
      {"boots", superblock.boots_total},
      {"health",
       {{"this_boot", HealthName(health == nullptr ? BootHealth::State::kBegun
                                                   : health->state())},
        {"healthy_once", superblock.healthy_once},
        {"boots_without_health", superblock.boots_without_health}}}};
}

namespace {

// visit(offset, size) of each run of blocks that may differ from the image.
template <typename Visit>
void ForEachDirtyExtent(const StreamEngine& engine, Visit visit) {
  const Grid grid = engine.manifest().grid();
  uint64_t start = 0;
  uint64_t end = 0;
  bool patched = false;  // most often nothing is
  engine.store().map().ForEachPatch(
      [&](ImageChunk, const Patch&) { patched = true; });
  engine.store().map().ForEach([&](ImageChunk chunk, const ChunkState& state) {
    uint64_t mask =
        state.location.is_zero() ? grid.full_mask(chunk.value) : state.dirty;
    if (patched) {
      for (const Patch& patch : engine.store().map().PatchesOf(chunk)) {
        mask |= uint64_t{1} << (patch.offset / kBlockBytes);
      }
    }
    for (uint32_t block = 0; block < 64 && mask >> block != 0; ++block) {
      if ((mask >> block & 1) == 0) continue;
      const uint64_t at =
          grid.offset_of(chunk.value) + uint64_t{block} * kBlockBytes;
      if (at != end) {
        if (end > start) visit(start, end - start);
        start = at;
      }
      end = at + kBlockBytes;
    }
  });
  if (end > start) visit(start, end - start);
}

}  // namespace

json RecoverySetReport(const StreamEngine& engine) {
  const RecoverySet& set = engine.recovery_set();
  uint64_t missing = 0;
  for (const ImageChunk chunk : set.Sorted()) {
    missing += engine.IsMissing(chunk);
  }
  std::string sentence;
  if (!set.is_whole()) {
    sentence =
        "what the network needs to come back is more than may be kept (" +
        std::to_string(set.chunks_max()) +
        " chunks: half of the room that there was for it); the rest "
        "comes from the server when it is read";
  }
  return {{"chunks", set.count()},
          {"missing", missing},
          {"at_most", set.chunks_max()},
          {"sentence", sentence}};
}

json DirtyExtents(const StreamEngine& engine) {
  json extents = json::array();
  ForEachDirtyExtent(engine, [&](uint64_t offset, uint64_t size) {
    extents.push_back({offset, size});
  });
  return extents;
}

json CountChanges(const StreamEngine& engine) {
  uint64_t bytes = 0;
  uint64_t extents = 0;
  ForEachDirtyExtent(engine, [&](uint64_t, uint64_t size) {
    bytes += size;
    ++extents;
  });
  return {{"bytes", bytes}, {"extents", extents}};
}

}  // namespace bootstream
