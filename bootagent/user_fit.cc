#include "bootagent/user_fit.h"

#include <utility>

#include "blockmap/base/aligned_buffer.h"
#include "blockmap/base/coding.h"
#include "blockmap/base/progress.h"
#include "bootagent/image_device.h"

namespace bootstream {
namespace {

// Source: ext4 (kernel documentation, "super block").
constexpr uint64_t kExtAt = 1024;
constexpr size_t kExtBytes = 1024;
constexpr size_t kReservedLoAt = 0x8;
constexpr size_t kFreeLoAt = 0xc;
constexpr size_t kLogBlockSizeAt = 0x18;
constexpr size_t kMagicAt = 0x38;
constexpr size_t kIncompatAt = 0x60;
constexpr size_t kReservedHiAt = 0x154;
constexpr size_t kFreeHiAt = 0x158;
constexpr uint16_t kMagic = 0xef53;
constexpr uint32_t kIncompat64Bit = 0x80;
constexpr uint32_t kLogBlockSizeMax = 6;

// What is free in the file system with this superblock but for what is held
// back; nullopt: it is none of ext.
std::optional<uint64_t> ExtFreeBytes(std::span<const std::byte> super) {
  const auto u32 = [&](size_t at) {
    return LoadLe<uint32_t>(super.subspan(at).first<4>());
  };
  const auto magic = LoadLe<uint16_t>(super.subspan(kMagicAt).first<2>());
  const uint32_t log = u32(kLogBlockSizeAt);
  if (magic != kMagic || log > kLogBlockSizeMax) return std::nullopt;
  const bool wide = (u32(kIncompatAt) & kIncompat64Bit) != 0;
  const auto count = [&](size_t lo, size_t hi) {
    return (wide ? uint64_t{u32(hi)} << 32 : 0) | u32(lo);
  };
  const uint64_t free = count(kFreeLoAt, kFreeHiAt);
  const uint64_t reserved = count(kReservedLoAt, kReservedHiAt);
  return free > reserved ? (free - reserved) << (10 + log) : 0;
}

bool IsPinned(const Manifest& manifest, ByteExtent extent) {
  const uint64_t chunk = extent.offset / manifest.grid().chunk_bytes;
  return manifest.IsPinned(ImageChunk{chunk});
}

std::string Missing(uint64_t wanted, uint64_t there) {
  return FormatBytes(wanted - there) + " are missing";
}

}  // namespace

std::string_view UserFitName(UserFit fit) {
  switch (fit) {
    case UserFit::kBeforeCommit:
      return "before-commit";
    case UserFit::kAfterCommit:
      return "after-commit";
    case UserFit::kNever:
      return "never";
    case UserFit::kUnknown:
      break;
  }
  return "unknown";
}

UserFitting JudgeUserSpace(UserSpace space,
                           std::optional<uint64_t> room_bytes) {
  UserFitting judged;
  judged.space = std::move(space);
  const auto& [user, free, unknown] = judged.space;
  if (!user || !free) {
    judged.sentence = unknown.empty() ? "not measured" : unknown;
    return judged;
  }
  const std::string all = FormatBytes(*user) + " of users' folders";
  if (*user > *free) {
    judged.fit = UserFit::kNever;
    judged.sentence = all + " do not fit into the new system, which has " +
                      FormatBytes(*free) + " free: " + Missing(*user, *free);
  } else if (room_bytes && *user > *room_bytes) {
    judged.fit = UserFit::kAfterCommit;
    judged.sentence = all + " fit after commit only, when the old system is " +
                      "gone: save them elsewhere; before it " +
                      Missing(*user, *room_bytes);
  } else {
    judged.fit = UserFit::kBeforeCommit;
    judged.sentence = all + " fit before commit";
  }
  return judged;
}

Task<Result<std::optional<uint64_t>>> ReadImageFreeBytes(
    const Manifest& manifest, const PartitionTable& table,
    ChunkSource& source) {
  ImageDevice device(manifest.grid(), source);
  std::optional<uint64_t> free;
  uint64_t largest = 0;
  for (const Partition& partition : table.partitions) {
    const ByteExtent extent = partition.extent;
    const uint64_t at = extent.offset + kExtAt;
    const bool inside = at + kExtBytes <= extent.end() &&
                        extent.end() <= manifest.grid().size_bytes;
    if (!inside || IsPinned(manifest, extent) || extent.size <= largest) {
      continue;
    }
    const uint64_t chunk = at / manifest.grid().chunk_bytes;
    if (manifest.IsZero(ImageChunk{chunk})) continue;
    AlignedBuffer super(kExtBytes);
    auto s = co_await device.Read(at, super.span());
    if (!s) co_return Annotate(s.error(), "the image");
    const auto found = ExtFreeBytes(super.span());
    if (!found) continue;
    free = found;
    largest = extent.size;
  }
  co_return free;
}

}  // namespace bootstream
