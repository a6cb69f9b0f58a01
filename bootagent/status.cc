#include "bootagent/status.h"

#include <bit>
#include <nlohmann/json.hpp>
#include <sstream>

#include "blockmap/base/progress.h"
#include "blockmap/image/image_facts.h"
#include "blockmap/image/signing.h"
#include "blockmap/map/space_account.h"
#include "bootagent/locate.h"

namespace bootstream {
namespace {

using Json = nlohmann::ordered_json;

struct Counts {
  uint64_t on_disk = 0;
  uint64_t at_home = 0;
  uint64_t zero = 0;
  uint64_t dirty_blocks = 0;
};

Counts Count(const MapStore& store) {
  Counts counts;
  store.map().ForEach([&](ImageChunk chunk, const ChunkState& state) {
    counts.on_disk += state.location.on_disk();
    counts.at_home += state.location == Location::At(HomeOf(chunk));
    counts.zero += state.location.is_zero();
    counts.dirty_blocks += std::popcount(state.dirty);
  });
  return counts;
}

std::string FoundBy(Located::By by) {
  switch (by) {
    case Located::By::kStub:
      return "stub";
    case Located::By::kAnchor:
      return "anchor";
    default:
      return "region file";
  }
}

std::string WhenFull(const Superblock& superblock) {
  if (superblock.guaranteed) return "cannot happen before commit";
  return superblock.give_up_source_when_full ? "give-up-source" : "block";
}

Json ImageJson(const Superblock& superblock, const Manifest& manifest) {
  return Json{{"name", superblock.image_name},
              {"version", manifest.content().version},
              {"manifest_digest", ToHex(superblock.manifest_digest)},
              {"bytes", superblock.image_bytes},
              {"chunk_bytes", superblock.chunk_bytes},
              {"chunks", manifest.grid().chunk_count()},
              {"data_chunks", manifest.data_chunk_count()}};
}

Json ChunksJson(const MapStore& store) {
  const Counts counts = Count(store);
  return Json{{"on_disk", counts.on_disk},
              {"at_home", counts.at_home},
              {"zeroed", counts.zero},
              {"dirty_blocks", counts.dirty_blocks},
              {"region", store.region().chunk_count()},
              {"region_free", store.region().free_count()},
              {"relocated", store.map().relocations().size()}};
}

Json Pair(uint64_t predicted, uint64_t actual) {
  return Json{{"predicted", predicted}, {"actual", actual}};
}

// What the plan has promised of the region, before commit; and how it came out.
Json SpaceJson(const OpenedMigration& migration) {
  const MapStore& store = *migration.store;
  if (store.superblock().committed) return Json();
  const Region& region = store.region();
  const uint64_t on_disk = Count(store).on_disk;
  const uint64_t relocated = store.map().relocations().size();
  const uint64_t metadata =
      region.chunk_count() - region.free_count() - on_disk - relocated;
  const SpacePrediction predicted = PredictSpace(
      store.superblock(), region, KeptChunkCount(*migration.manifest));
  return Json{{"relocations_at_most", Pair(predicted.relocations, relocated)},
              {"metadata_at_most", Pair(predicted.metadata, metadata)},
              {"room_for_image_at_least",
               Pair(predicted.room_for_image,
                    on_disk + RoomForImage(store.superblock(), region))}};
}

Json FullJson(const Job& job, const Located& located,
              const OpenedMigration& migration) {
  const Superblock& superblock = migration.store->superblock();
  Json json;
  json["disk"] = job.disk;
  json["phase"] = PhaseName(superblock.phase);
  json["found_by"] = FoundBy(located.by);
  json["migration_id"] = ToHex(superblock.migration_id);
  json["image"] = ImageJson(superblock, *migration.manifest);
  json["chunks"] = ChunksJson(*migration.store);
  json["space"] = SpaceJson(migration);
  json["guaranteed"] = superblock.guaranteed;
  json["when_full"] = WhenFull(superblock);
  json["healthy_once"] = superblock.healthy_once;
  json["committed"] = superblock.committed;
  json["rollback_wished"] = superblock.rollback_wished;
  json["boots_total"] = superblock.boots_total;
  json["boots_without_health"] = superblock.boots_without_health;
  json["starts_without_boot"] = superblock.starts_without_boot;
  json["servers"] = superblock.server_urls;
  json["source_fs_offset"] = superblock.source_fs_offset;
  json["anchor_offset"] = superblock.anchor_offset == kNone
                              ? Json()
                              : Json(superblock.anchor_offset);
  json["superblock_chunks"] = {superblock.superblock_chunks[0].value,
                               superblock.superblock_chunks[1].value};
  json["region"] = Json::array();
  for (const DiskExtent& extent : migration.store->region().base()) {
    json["region"].push_back(
        {{"first", extent.first}, {"count", extent.count}});
  }
  json["relocations"] = Json::array();
  for (const auto& [source, now] : migration.store->map().relocations()) {
    json["relocations"].push_back(
        {{"source", source.value}, {"now", now.value}});
  }
  json["warnings"] = located.warnings;
  return json;
}

// What the disk says need not be UTF-8.
std::string Line(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

void Row(std::ostream& out, const std::string& name, const std::string& text) {
  out << name << std::string(name.size() < 14 ? 14 - name.size() : 1, ' ')
      << text << "\n";
}

std::string FullText(const Job& job, const Located& located,
                     const OpenedMigration& migration) {
  const MapStore& store = *migration.store;
  const Superblock& superblock = store.superblock();
  const Counts counts = Count(store);
  const auto size = [&](uint64_t chunks) {
    return FormatBytes(chunks * superblock.chunk_bytes);
  };
  std::ostringstream out;
  Row(out, "disk", job.disk);
  Row(out, "phase",
      std::string(PhaseName(superblock.phase)) + ", found by " +
          FoundBy(located.by));
  Row(out, "image",
      superblock.image_name + " " + migration.manifest->content().version +
          ", " + FormatBytes(superblock.image_bytes));
  Row(out, "on the disk",
      size(counts.on_disk) + " of " +
          size(migration.manifest->data_chunk_count()) + " of data, " +
          size(counts.at_home) + " at home");
  Row(out, "region",
      size(store.region().chunk_count()) + ", " +
          size(store.region().free_count()) + " free");
  const SpacePrediction predicted = PredictSpace(
      superblock, store.region(), KeptChunkCount(*migration.manifest));
  Row(out, "moved away",
      size(store.map().relocations().size()) + " of the old system" +
          (superblock.committed
               ? ""
               : ", at most " + size(predicted.relocations) + " foreseen"));
  Row(out, "when full", WhenFull(superblock));
  Row(out, "boots",
      std::to_string(superblock.boots_total) + ", " +
          std::to_string(superblock.boots_without_health) +
          " since it was last healthy");
  for (const std::string& warning : located.warnings) {
    Row(out, "warning", warning);
  }
  return out.str();
}

}  // namespace

Task<Result<std::string>> StatusText(const Job& job) {
  const auto located = co_await Locate(job);
  if (!located) co_return located.error();
  if (!located->superblock) {
    std::ostringstream out;
    Row(out, "disk", job.disk);
    Row(out, "phase", "none: there is no migration on this disk");
    for (const auto& warning : located->warnings) Row(out, "warning", warning);
    co_return out.str();
  }
  const auto migration =
      co_await OpenMigration(job, *located->superblock, /*read_only=*/true);
  if (!migration) co_return migration.error();
  co_return FullText(job, *located, *migration);
}

Task<Result<std::string>> StatusJson(const Job& job) {
  const auto located = co_await Locate(job);
  if (!located) co_return located.error();
  if (!located->superblock) {
    Json json;
    json["disk"] = job.disk;
    json["phase"] = "none";
    json["warnings"] = located->warnings;
    co_return Line(json);
  }
  const auto migration =
      co_await OpenMigration(job, *located->superblock, /*read_only=*/true);
  if (!migration) co_return migration.error();
  co_return Line(FullJson(job, *located, *migration));
}

}  // namespace bootstream
