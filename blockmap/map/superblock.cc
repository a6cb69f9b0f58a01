#include "blockmap/map/superblock.h"

#include <algorithm>
#include <cassert>
#include <string>

#include "blockmap/base/coding.h"
#include "blockmap/map/sealed.h"

namespace bootstream {
namespace {

constexpr std::string_view kMagic = "BSSUPER1";
constexpr size_t kMigrationIdAt = 48;
constexpr size_t kStringsAt = 512;
constexpr size_t kFieldsEnd = 440;
constexpr size_t kStringBytesMax = 65535;

constexpr uint32_t kHealthyOnce = 1 << 0;
constexpr uint32_t kCommittedFlag = 1 << 1;
constexpr uint32_t kGiveUpSource = 1 << 2;
constexpr uint32_t kGuaranteed = 1 << 3;
constexpr uint32_t kRollbackWished = 1 << 4;
constexpr uint32_t kKeepTarget = 1 << 5;
constexpr uint32_t kKnownFlags = (1 << 6) - 1;

uint32_t FlagsOf(const Superblock& sb) {
  return (sb.healthy_once ? kHealthyOnce : 0) |
         (sb.committed ? kCommittedFlag : 0) |
         (sb.give_up_source_when_full ? kGiveUpSource : 0) |
         (sb.guaranteed ? kGuaranteed : 0) |
         (sb.rollback_wished ? kRollbackWished : 0) |
         (sb.keep_target ? kKeepTarget : 0);
}

void SetFlags(Superblock& sb, uint32_t flags) {
  sb.healthy_once = (flags & kHealthyOnce) != 0;
  sb.committed = (flags & kCommittedFlag) != 0;
  sb.give_up_source_when_full = (flags & kGiveUpSource) != 0;
  sb.guaranteed = (flags & kGuaranteed) != 0;
  sb.rollback_wished = (flags & kRollbackWished) != 0;
  sb.keep_target = (flags & kKeepTarget) != 0;
}

void PutFields(ByteWriter& out, const Superblock& sb) {
  PutMagic(out, kMagic);
  out.U32(0);
  out.U32(sb.chunk_bytes);
  PutFeatures(out, sb.features);
  out.U64(sb.sequence);
  assert(out.size() == kMigrationIdAt);
  out.Bytes(sb.migration_id);
  PutIdentity(out, sb.disk);
  out.U32(static_cast<uint32_t>(sb.phase));
  out.U32(FlagsOf(sb));
  out.U64(sb.image_bytes);
  out.U64(sb.image_version);
  out.Bytes(sb.manifest_digest);
  out.U64(sb.manifest_bytes);
  out.Bytes(sb.target_table_id);
  for (const DiskChunk chunk : sb.superblock_chunks) out.U64(chunk.value);
  out.U64(sb.anchor_offset);
  out.U64(sb.checkpoint_chunk.value);
  out.U64(sb.checkpoint_epoch);
  out.U64(sb.journal_chunk.value);
  out.U64(sb.journal_epoch);
  out.U64(sb.journal_sequence);
  out.U64(sb.manifest_chunk.value);
  out.U64(sb.manifest_epoch);
  out.U64(sb.next_epoch);
  out.U32(sb.boots_without_health);
  out.U32(sb.journal_chunks);
  out.U64(sb.source_fs_offset);
  out.Bytes(sb.source_fs_uuid);
  out.Bytes(sb.source_fingerprint);
  out.U64(sb.region_chunk_count);
  out.U64(sb.boots_total);
  out.U64(sb.spare_chunks);
  out.U64(sb.old_superblock_chunk.value);
  out.U32(sb.starts_without_boot);
  out.U32(0);
  out.Bytes(sb.counted_boot);
  out.Bytes(sb.previous_table_id);
  assert(out.size() == kFieldsEnd);
  out.PadTo(kStringsAt);
}

bool HasRoomFor(const Superblock& sb) {
  size_t bytes = kStringsAt + 3 * sizeof(uint16_t);
  const auto add = [&bytes](const std::string& text) {
    if (text.size() > kStringBytesMax) return false;
    bytes += text.size();
    return true;
  };
  if (!add(sb.image_name) || !add(sb.network)) return false;
  if (sb.server_urls.size() > kSuperblockBytes) return false;
  for (const std::string& url : sb.server_urls) {
    bytes += sizeof(uint16_t);
    if (!add(url)) return false;
  }
  return bytes <= kSuperblockBytes;
}

Status GetStrings(ByteReader& in, Superblock& sb) {
  sb.image_name = in.String();
  sb.network = in.String();
  const uint16_t urls = in.U16();
  for (uint16_t i = 0; i < urls && in.ok(); ++i) {
    sb.server_urls.push_back(in.String());
  }
  if (!in.ok() || !AllZero(in.Bytes(in.remaining()))) {
    return Error{ErrorCode::kCorrupt, "superblock: strings run past the end"};
  }
  return OkStatus();
}

Status CheckSense(const Superblock& sb, uint32_t phase, uint32_t flags) {
  if (phase < static_cast<uint32_t>(Phase::kReleased) ||
      phase > static_cast<uint32_t>(Phase::kParked) ||
      (flags & ~kKnownFlags) != 0) {
    return Error{ErrorCode::kUnsupported,
                 "superblock: unknown phase " + std::to_string(phase) +
                     " or flags " + std::to_string(flags)};
  }
  if (!IsChunkSize(sb.chunk_bytes) || sb.image_bytes % kBlockBytes != 0 ||
      sb.superblock_chunks[0] == sb.superblock_chunks[1]) {
    return Error{ErrorCode::kCorrupt, "superblock: a field makes no sense"};
  }
  return OkStatus();
}

}  // namespace

std::string_view PhaseName(Phase phase) {
  switch (phase) {
    case Phase::kReleased:
      return "released";
    case Phase::kStaged:
      return "staged";
    case Phase::kRelocated:
      return "relocated";
    case Phase::kStubbed:
      return "stubbed";
    case Phase::kWritten:
      return "written";
    case Phase::kArmed:
      return "armed";
    case Phase::kStreaming:
      return "streaming";
    case Phase::kComplete:
      return "complete";
    case Phase::kCommitted:
      return "committed";
    case Phase::kSettled:
      return "settled";
    case Phase::kRollingBack:
      return "rolling-back";
    case Phase::kParked:
      return "parked";
  }
  return "unknown";
}

Result<std::array<std::byte, kSuperblockBytes>> EncodeSuperblock(
    const Superblock& superblock) {
  if (!HasRoomFor(superblock)) {
    return Error{ErrorCode::kInvalid,
                 "superblock: image name, network facts and server URLs are "
                 "longer than 3.5 KiB; name fewer servers"};
  }
  std::vector<std::byte> bytes;
  ByteWriter out(bytes);
  PutFields(out, superblock);
  out.String(superblock.image_name);
  out.String(superblock.network);
  out.U16(static_cast<uint16_t>(superblock.server_urls.size()));
  for (const std::string& url : superblock.server_urls) out.String(url);
  std::array<std::byte, kSuperblockBytes> block{};
  std::copy(bytes.begin(), bytes.end(), block.begin());
  Seal(block);
  return block;
}

Result<Superblock> DecodeSuperblock(std::span<const std::byte> block) {
  assert(block.size() == kSuperblockBytes);
  if (auto s = CheckSeal(block, kMagic, "superblock"); !s) return s.error();
  ByteReader in(block);
  in.Skip(kMagic.size() + sizeof(uint32_t));
  Superblock sb;
  sb.chunk_bytes = in.U32();
  const auto features = GetFeatures(in, "superblock");
  if (!features) return features.error();
  sb.features = *features;
  sb.sequence = in.U64();
  sb.migration_id = in.Array<16>();
  const auto disk = GetIdentity(in, "superblock");
  if (!disk) return disk.error();
  sb.disk = *disk;
  const uint32_t phase = in.U32();
  const uint32_t flags = in.U32();
  sb.phase = static_cast<Phase>(phase);
  SetFlags(sb, flags);
  sb.image_bytes = in.U64();
  sb.image_version = in.U64();
  sb.manifest_digest = in.Array<32>();
  sb.manifest_bytes = in.U64();
  sb.target_table_id = in.Array<16>();
  for (DiskChunk& chunk : sb.superblock_chunks) chunk.value = in.U64();
  sb.anchor_offset = in.U64();
  sb.checkpoint_chunk.value = in.U64();
  sb.checkpoint_epoch = in.U64();
  sb.journal_chunk.value = in.U64();
  sb.journal_epoch = in.U64();
  sb.journal_sequence = in.U64();
  sb.manifest_chunk.value = in.U64();
  sb.manifest_epoch = in.U64();
  sb.next_epoch = in.U64();
  sb.boots_without_health = in.U32();
  sb.journal_chunks = in.U32();
  sb.source_fs_offset = in.U64();
  sb.source_fs_uuid = in.Array<16>();
  sb.source_fingerprint = in.Array<32>();
  sb.region_chunk_count = in.U64();
  sb.boots_total = in.U64();
  sb.spare_chunks = in.U64();
  sb.old_superblock_chunk.value = in.U64();
  sb.starts_without_boot = in.U32();
  const uint32_t reserved = in.U32();
  sb.counted_boot = in.Array<16>();
  sb.previous_table_id = in.Array<16>();
  if (auto s = CheckSense(sb, phase, flags); !s) return s.error();
  if (reserved != 0 || !AllZero(in.Bytes(kStringsAt - kFieldsEnd))) {
    return Error{ErrorCode::kCorrupt, "superblock: a field makes no sense"};
  }
  if (auto s = GetStrings(in, sb); !s) return s.error();
  return sb;
}

bool IsSuperblockOf(std::span<const std::byte> block,
                    const Uuid& migration_id) {
  const Status seal = CheckSeal(block, kMagic, "superblock");
  const bool is_one = seal || seal.error().code != ErrorCode::kNotFound;
  return is_one &&
         std::ranges::equal(block.subspan(kMigrationIdAt, migration_id.size()),
                            migration_id);
}

}  // namespace bootstream
