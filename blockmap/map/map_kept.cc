#include <cassert>
#include <string>
#include <utility>
#include <variant>

#include "blockmap/map/map_store_impl.h"

namespace bootstream {
namespace {

Error Misfit(const std::string& what) {
  return Error{ErrorCode::kCorrupt,
               "map: a kept change does not fit the map: " + what};
}

}  // namespace

void MapStore::Impl::HoldPlaces(const std::vector<Record>& records) {
  for (const Record& record : records) {
    if (const auto* set = std::get_if<SetRecord>(&record)) {
      const Location& location = set->state.location;
      if (location.on_disk()) HoldPlace(location.chunk());
    } else if (const auto* move = std::get_if<RelocationRecord>(&record)) {
      HoldPlace(move->now.value_or(move->source));
    }
  }
}

// The predecessor had allocated it, so it was free and ours.
void MapStore::Impl::HoldPlace(DiskChunk chunk) {
  if (region.OccupantOf(chunk).use != ChunkUse::kFree) return;
  region.SetOccupant(chunk, {ChunkUse::kReserved, 0});
  allocated.insert(chunk);
}

Task<Status> MapStore::Impl::RepeatChanges(std::vector<Record> records) {
  for (const Record& record : records) {
    if (Status s = RepeatChange(record); !s) co_return s;
  }
  // What was held for somebody who has died with the predecessor.
  while (!allocated.empty()) Release(*allocated.begin());
  co_return co_await Commit();
}

Status MapStore::Impl::RepeatChange(const Record& record) {
  if (const auto* set = std::get_if<SetRecord>(&record)) {
    if (Status s = CheckRecord(*set, limits()); !s) return s;
    const Location& to = set->state.location;
    const bool moves = to != map.Get(set->chunk).location;
    if (moves && to.on_disk() && !allocated.contains(to.chunk())) {
      return Misfit("disk chunk " + std::to_string(to.chunk().value) +
                    " has another user");
    }
    SetChunk(set->chunk, set->state);
  } else if (const auto* move = std::get_if<RelocationRecord>(&record)) {
    if (Status s = CheckRecord(*move, map, limits()); !s) return s;
    if (!allocated.contains(move->now.value_or(move->source))) {
      return Misfit("source chunk " + std::to_string(move->source.value) +
                    " has nowhere to go");
    }
    SetRelocation(move->source, move->now);
  } else if (const auto* patch = std::get_if<PatchRecord>(&record)) {
    if (Status s = CheckRecord(*patch, map, limits()); !s) return s;
    AddPatch(patch->chunk, patch->patch);
  }
  return OkStatus();
}

}  // namespace bootstream
