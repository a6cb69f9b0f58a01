#include "initramfs/driver/space_level.h"

#include <algorithm>

#include "blockmap/base/progress.h"

namespace bootstream {
namespace {

// Of the region, but no more than so many bytes: who has that much left has
// time.
constexpr uint64_t kLowShare = 4;
constexpr uint64_t kLowBytesMax = uint64_t{16} << 30;
constexpr uint64_t kCriticalShare = 10;
constexpr uint64_t kCriticalBytesMax = uint64_t{4} << 30;

// Image chunks that can be written before there is no place left.
uint64_t Writable(const SpaceFacts& facts) { return facts.free + facts.clean; }

// With nothing evicted, each has a place.
bool IsEnough(const SpaceFacts& facts) { return facts.free >= facts.absent; }

bool IsBelow(const SpaceFacts& facts, uint64_t share, uint64_t bytes_max) {
  const uint64_t most = bytes_max / std::max<uint64_t>(facts.chunk_bytes, 1);
  return Writable(facts) < std::min(facts.region / share, most);
}

std::string WhatThen(const SpaceFacts& facts) {
  if (facts.rollback_wished) {
    return "then writes wait, for the next start goes back to the old system";
  }
  if (facts.give_up_source && !facts.guaranteed) {
    return "then the old system is given up, as --when-full give-up-source "
           "says";
  }
  return "then writes wait; 'streamctl commit' gives the old system up and "
         "makes the whole disk room";
}

std::string WhyItWaits(const SpaceFacts& facts) {
  if (facts.rollback_wished) {
    return "the next start goes back to the old system, so nothing is given "
           "up: restart";
  }
  if (facts.give_up_source && !facts.guaranteed) {
    return facts.source_attached
               ? "the old system is to be given up and is attached: "
                 "'streamctl source detach'"
               : "the old system is being given up";
  }
  return "'streamctl commit' gives the old system up and makes the whole disk "
         "room, 'streamctl rollback' goes back to it";
}

}  // namespace

SpaceLevel SpaceLevelOf(const SpaceFacts& facts) {
  if (facts.stuck) return SpaceLevel::kFull;
  if (facts.committed || IsEnough(facts)) return SpaceLevel::kOk;
  if (Writable(facts) == 0) return SpaceLevel::kFull;
  // What was discarded is not free before it is durable: the promise stands.
  if (facts.guaranteed) return SpaceLevel::kOk;
  if (IsBelow(facts, kCriticalShare, kCriticalBytesMax)) {
    return SpaceLevel::kCritical;
  }
  return IsBelow(facts, kLowShare, kLowBytesMax) ? SpaceLevel::kLow
                                                 : SpaceLevel::kOk;
}

std::string_view SpaceLevelName(SpaceLevel level) {
  switch (level) {
    case SpaceLevel::kOk:
      return "ok";
    case SpaceLevel::kLow:
      return "low";
    case SpaceLevel::kCritical:
      return "critical";
    case SpaceLevel::kFull:
      return "full";
  }
  return "unknown";
}

std::string SpaceSentence(const SpaceFacts& facts) {
  const auto size = [&](uint64_t chunks) {
    return FormatBytes(chunks * facts.chunk_bytes);
  };
  const std::string waiting =
      std::to_string(facts.waiting_writes) +
      (facts.waiting_writes == 1 ? " write waits" : " writes wait");
  switch (SpaceLevelOf(facts)) {
    case SpaceLevel::kFull:
      if (facts.committed) return "the disk is full: " + waiting + " for room";
      if (facts.waiting_writes == 0) {
        return "the region is full: the next write that needs a place waits; " +
               WhyItWaits(facts);
      }
      return "the region is full: " + waiting + " for room; " +
             WhyItWaits(facts);
    case SpaceLevel::kLow:
    case SpaceLevel::kCritical:
      return "the region is getting full: " + size(Writable(facts)) +
             " can still be written in new places, at worst " +
             size(facts.absent) + " want one; " + WhatThen(facts);
    case SpaceLevel::kOk:
      break;
  }
  if (facts.committed) return "the whole disk is this system's";
  if (IsEnough(facts) || facts.guaranteed) {
    return "there is room for all that can be written before commit";
  }
  return size(Writable(facts)) +
         " can be written in new places before the region is full, at worst " +
         size(facts.absent) + " want one";
}

bool WantsSource(const SpaceFacts& facts) {
  return facts.stuck && facts.give_up_source && !facts.guaranteed &&
         !facts.committed && !facts.rollback_wished && !facts.source_attached;
}

}  // namespace bootstream
