#include <string>
#include <variant>

#include "blockmap/map/checkpoint.h"

namespace bootstream {
namespace {

Error Corrupt(std::string message) {
  return Error{ErrorCode::kCorrupt, std::move(message)};
}

std::string ImageName(ImageChunk chunk) {
  return "image chunk " + std::to_string(chunk.value);
}

}  // namespace

Status CheckRecord(const SetRecord& record, const MapLimits& limits) {
  const auto& [chunk, state] = record;
  if (chunk.value >= limits.image.chunk_count()) {
    return Corrupt(ImageName(chunk) + " is beyond the image");
  }
  if ((state.dirty & ~state.valid) != 0 ||
      (state.valid & ~limits.image.full_mask(chunk.value)) != 0) {
    return Corrupt(ImageName(chunk) + ": block masks make no sense");
  }
  if (state.location.is_absent() && state.valid != 0) {
    return Corrupt(ImageName(chunk) + " is absent and has valid blocks");
  }
  if (state.location.on_disk() &&
      state.location.chunk().value >= limits.disk.chunk_count()) {
    return Corrupt(ImageName(chunk) + " is beyond the disk");
  }
  return OkStatus();
}

Status CheckRecord(const RelocationRecord& record, const BlockMap& map,
                   const MapLimits& limits) {
  const std::string name =
      "relocated chunk " + std::to_string(record.source.value);
  if (record.source.value >= limits.disk.chunk_count()) {
    return Corrupt(name + " is beyond the disk");
  }
  if (!record.now) {
    if (!map.Relocated(record.source)) {
      return Corrupt(name + " comes back and was never away");
    }
    return OkStatus();
  }
  if (record.now->value >= limits.whole_disk_chunks() ||
      *record.now == record.source) {
    return Corrupt(name + " has gone to a chunk where it cannot be");
  }
  return OkStatus();
}

Status CheckRecord(const PatchRecord& record, const BlockMap& map,
                   const MapLimits& limits) {
  const auto& [chunk, patch] = record;
  const std::string name = "patch of " + ImageName(chunk);
  if (chunk.value >= limits.image.chunk_count()) {
    return Corrupt(name + ": beyond the image");
  }
  const uint64_t end = uint64_t{patch.offset} + patch.data.size();
  if (patch.data.empty() || end > limits.image.bytes_of(chunk.value) ||
      patch.offset / kBlockBytes != (end - 1) / kBlockBytes) {
    return Corrupt(name + ": not inside one block");
  }
  const ChunkState state = map.Get(chunk);
  const uint64_t bit = uint64_t{1} << (patch.offset / kBlockBytes);
  if (state.location.is_zero() || (state.valid & bit) != 0) {
    return Corrupt(name + ": its block is already there");
  }
  return OkStatus();
}

Status ApplyRecord(const Record& record, const MapLimits& limits,
                   BlockMap& map) {
  if (const auto* set = std::get_if<SetRecord>(&record)) {
    if (Status s = CheckRecord(*set, limits); !s) return s;
    map.Set(set->chunk, set->state);
  } else if (const auto* move = std::get_if<RelocationRecord>(&record)) {
    if (Status s = CheckRecord(*move, map, limits); !s) return s;
    map.SetRelocation(move->source, move->now);
  } else if (const auto* patch = std::get_if<PatchRecord>(&record)) {
    if (Status s = CheckRecord(*patch, map, limits); !s) return s;
    map.AddPatch(patch->chunk, patch->patch);
  }
  return OkStatus();
}

Status CheckRegion(std::span<const DiskExtent> region,
                   const MapLimits& limits) {
  const DiskExtent all{0, limits.disk.chunk_count()};
  if (region.size() == 1 && region.front() == all) return OkStatus();
  const uint64_t end = limits.whole_disk_chunks();
  uint64_t free_from = 0;
  for (const DiskExtent& extent : region) {
    if (extent.count == 0 || extent.first < free_from || extent.first > end ||
        extent.count > end - extent.first) {
      return Corrupt("region: extent of " + std::to_string(extent.count) +
                     " chunks at " + std::to_string(extent.first) +
                     " is out of order or beyond the disk");
    }
    free_from = extent.end() + 1;  // touching ones would have been one
  }
  return OkStatus();
}

}  // namespace bootstream
