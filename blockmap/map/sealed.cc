#include "blockmap/map/sealed.h"

#include <cstring>
#include <string>

#include "blockmap/base/crc32c.h"

namespace bootstream {
namespace {

constexpr size_t kSealAt = 8;
constexpr size_t kAfterSeal = kSealAt + sizeof(uint32_t);

uint32_t SealOf(std::span<const std::byte> bytes) {
  constexpr std::array<std::byte, sizeof(uint32_t)> kZeroField{};
  uint32_t crc = Crc32c(bytes.first(kSealAt));
  crc = Crc32c(kZeroField, crc);
  return Crc32c(bytes.subspan(kAfterSeal), crc);
}

Error Corrupt(std::string_view what, std::string_view why) {
  return Error{ErrorCode::kCorrupt,
               std::string(what) + ": " + std::string(why)};
}

}  // namespace

void Seal(std::span<std::byte> bytes) {
  const uint32_t seal = SealOf(bytes);
  StoreLe<uint32_t>(bytes.subspan<kSealAt, sizeof(uint32_t)>(), seal);
}

Status CheckSeal(std::span<const std::byte> bytes, std::string_view magic,
                 std::string_view what) {
  if (bytes.size() < kAfterSeal ||
      std::memcmp(bytes.data(), magic.data(), magic.size()) != 0) {
    return Error{ErrorCode::kNotFound, "no " + std::string(what) + " here"};
  }
  const auto stored =
      LoadLe<uint32_t>(bytes.subspan<kSealAt, sizeof(uint32_t)>());
  if (stored != SealOf(bytes)) return Corrupt(what, "bad checksum");
  return OkStatus();
}

void PutMagic(ByteWriter& out, std::string_view magic) {
  out.Bytes(std::as_bytes(std::span(magic.data(), magic.size())));
}

void PutFeatures(ByteWriter& out, const FeatureMasks& features) {
  out.U64(features.refuse);
  out.U64(features.ignore);
  out.U64(features.clear);
}

Result<FeatureMasks> GetFeatures(ByteReader& in, std::string_view what) {
  FeatureMasks features;
  features.refuse = in.U64();
  features.ignore = in.U64();
  features.clear = in.U64();
  if (features.refuse != 0) {
    return Error{ErrorCode::kUnsupported,
                 std::string(what) + ": written by a newer version (features " +
                     std::to_string(features.refuse) +
                     "); use that version or a later one"};
  }
  return features;
}

void PutIdentity(ByteWriter& out, const DiskIdentity& disk) {
  out.U64(disk.size_bytes);
  out.U32(disk.sector_bytes);
  out.U32(static_cast<uint32_t>(disk.table_type));
  out.Bytes(disk.source_table_id);
  out.Bytes(disk.serial_sha256);
  out.U64(0);
}

Result<DiskIdentity> GetIdentity(ByteReader& in, std::string_view what) {
  DiskIdentity disk;
  disk.size_bytes = in.U64();
  disk.sector_bytes = in.U32();
  const uint32_t table_type = in.U32();
  disk.source_table_id = in.Array<16>();
  disk.serial_sha256 = in.Array<32>();
  const uint64_t reserved = in.U64();
  if (disk.sector_bytes != kSectorBytes) {
    return Error{ErrorCode::kUnsupported,
                 std::string(what) + ": sectors of " +
                     std::to_string(disk.sector_bytes) + " bytes"};
  }
  if (table_type > static_cast<uint32_t>(TableType::kGpt) || reserved != 0) {
    return Corrupt(what, "disk identity makes no sense");
  }
  disk.table_type = static_cast<TableType>(table_type);
  return disk;
}

bool IsChunkSize(uint32_t chunk_bytes) {
  return chunk_bytes == 64 * 1024 || chunk_bytes == 128 * 1024 ||
         chunk_bytes == 256 * 1024;
}

}  // namespace bootstream
