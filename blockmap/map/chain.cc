#include "blockmap/map/chain.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <string>

#include "blockmap/base/aligned_buffer.h"
#include "blockmap/base/coding.h"
#include "blockmap/base/crc32c.h"
#include "blockmap/map/sealed.h"

namespace bootstream {
namespace {

constexpr std::string_view kMagic = "BSCHAIN1";
constexpr size_t kFieldsEnd = 72;

std::string_view KindName(ChainKind kind) {
  switch (kind) {
    case ChainKind::kCheckpoint:
      return "checkpoint";
    case ChainKind::kJournal:
      return "journal";
    case ChainKind::kManifest:
      return "manifest";
  }
  return "chain";
}

Error CorruptAt(const ChainName& name, DiskChunk chunk, std::string_view why) {
  return Error{ErrorCode::kCorrupt,
               std::string(KindName(name.kind)) + " in disk chunk " +
                   std::to_string(chunk.value) + ": " + std::string(why)};
}

Result<ChainHeader> CheckedHeader(std::span<const std::byte> block,
                                  const ChainName& name, DiskChunk chunk,
                                  uint64_t index, uint32_t payload_bytes_max) {
  auto header = DecodeChainHeader(block);
  if (!header) return CorruptAt(name, chunk, header.error().message);
  if (header->name != name || header->index != index) {
    return CorruptAt(name, chunk, "belongs to something else");
  }
  if (header->payload_bytes > payload_bytes_max) {
    return CorruptAt(name, chunk, "payload is longer than the chunk");
  }
  return header;
}

}  // namespace

std::array<std::byte, kChainHeaderBytes> EncodeChainHeader(
    const ChainHeader& header) {
  std::vector<std::byte> bytes;
  ByteWriter out(bytes);
  PutMagic(out, kMagic);
  out.U32(0);
  out.U32(static_cast<uint32_t>(header.name.kind));
  out.Bytes(header.name.migration_id);
  out.U64(header.name.epoch);
  out.U64(header.index);
  out.U64(header.next.value);
  out.U32(header.payload_bytes);
  out.U32(header.payload_crc32c);
  out.U64(header.first_sequence);
  assert(out.size() == kFieldsEnd);
  std::array<std::byte, kChainHeaderBytes> block{};
  std::copy(bytes.begin(), bytes.end(), block.begin());
  Seal(block);
  return block;
}

Result<ChainHeader> DecodeChainHeader(std::span<const std::byte> block) {
  assert(block.size() == kChainHeaderBytes);
  if (auto s = CheckSeal(block, kMagic, "chain header"); !s) return s.error();
  ByteReader in(block);
  in.Skip(kMagic.size() + sizeof(uint32_t));
  ChainHeader header;
  header.name.kind = static_cast<ChainKind>(in.U32());
  header.name.migration_id = in.Array<16>();
  header.name.epoch = in.U64();
  header.index = in.U64();
  header.next.value = in.U64();
  header.payload_bytes = in.U32();
  header.payload_crc32c = in.U32();
  header.first_sequence = in.U64();
  if (!AllZero(in.Bytes(in.remaining()))) {
    return Error{ErrorCode::kCorrupt, "chain header: a field makes no sense"};
  }
  return header;
}

uint64_t ChainChunksFor(uint64_t payload_bytes, uint32_t chunk_bytes) {
  const uint64_t each = ChainPayloadBytes(chunk_bytes);
  return std::max<uint64_t>(
      1, payload_bytes / each + (payload_bytes % each != 0 ? 1 : 0));
}

Task<Status> WriteChain(BlockDevice& device, uint32_t chunk_bytes,
                        ChainName name, std::span<const DiskChunk> chunks,
                        std::span<const std::byte> payload, size_t* refused) {
  assert(chunks.size() == ChainChunksFor(payload.size(), chunk_bytes));
  AlignedBuffer buffer(chunk_bytes);
  for (size_t i = 0; i < chunks.size(); ++i) {
    const auto part = payload.first(
        std::min<size_t>(payload.size(), ChainPayloadBytes(chunk_bytes)));
    payload = payload.subspan(part.size());
    ChainHeader header;
    header.name = name;
    header.index = i;
    if (i + 1 < chunks.size()) header.next = chunks[i + 1];
    header.payload_bytes = static_cast<uint32_t>(part.size());
    header.payload_crc32c = Crc32c(part);
    const auto block = EncodeChainHeader(header);
    std::copy(block.begin(), block.end(), buffer.data());
    const auto body = buffer.span().subspan(kChainHeaderBytes);
    std::copy(part.begin(), part.end(), body.begin());
    const auto rest = body.subspan(part.size());
    std::fill(rest.begin(), rest.end(), std::byte{0});
    // Whole blocks: what follows the last one of the payload is never read.
    const size_t size = kChainHeaderBytes + (part.size() + kBlockBytes - 1) /
                                                kBlockBytes * kBlockBytes;
    const Status written = co_await device.Write(chunks[i].value * chunk_bytes,
                                                 buffer.span().first(size));
    if (!written && refused != nullptr) *refused = i;
    if (!written) co_return written.error();
  }
  co_return OkStatus();
}

Task<Status> WriteJournalHeaders(BlockDevice& device, uint32_t chunk_bytes,
                                 ChainName name,
                                 std::span<const DiskChunk> chunks,
                                 uint64_t first_sequence, size_t* refused) {
  // The first block behind a header, which is none: what an earlier journal has
  // left there does not go on, were its epoch given again.
  AlignedBuffer buffer(kChainHeaderBytes + kBlockBytes);
  for (size_t i = 0; i < chunks.size(); ++i) {
    ChainHeader header;
    header.name = name;
    header.index = i;
    if (i + 1 < chunks.size()) header.next = chunks[i + 1];
    header.first_sequence = first_sequence;
    const auto block = EncodeChainHeader(header);
    std::copy(block.begin(), block.end(), buffer.data());
    const Status written =
        co_await device.Write(chunks[i].value * chunk_bytes, buffer.span());
    if (!written && refused != nullptr) *refused = i;
    if (!written) co_return written.error();
  }
  co_return OkStatus();
}

Task<Result<Chain>> ReadChain(BlockDevice& device, Grid disk, ChainName name,
                              DiskChunk head, bool with_payload) {
  Chain chain;
  const uint64_t whole_chunks = disk.size_bytes / disk.chunk_bytes;
  const uint32_t payload_bytes_max = name.kind == ChainKind::kJournal
                                         ? 0
                                         : ChainPayloadBytes(disk.chunk_bytes);
  AlignedBuffer buffer(with_payload ? disk.chunk_bytes : kChainHeaderBytes);
  // No chunk can come twice: its index would be wrong.
  for (DiskChunk at = head; at.value != kNone;) {
    if (at.value >= whole_chunks) {
      co_return CorruptAt(name, at, "there is no such chunk on this disk");
    }
    const Status read =
        co_await device.Read(disk.offset_of(at.value), buffer.span());
    if (!read) co_return read.error();
    const auto bytes = buffer.span();
    const auto header = CheckedHeader(bytes.first(kChainHeaderBytes), name, at,
                                      chain.chunks.size(), payload_bytes_max);
    if (!header) co_return header.error();
    if (with_payload) {
      const auto part = bytes.subspan(kChainHeaderBytes, header->payload_bytes);
      if (Crc32c(part) != header->payload_crc32c) {
        co_return CorruptAt(name, at, "bad checksum of the payload");
      }
      chain.payload.insert(chain.payload.end(), part.begin(), part.end());
    }
    if (chain.chunks.empty()) {
      chain.first_sequence = header->first_sequence;
    } else if (chain.first_sequence != header->first_sequence) {
      co_return CorruptAt(name, at, "belongs to something else");
    }
    chain.chunks.push_back(at);
    at = header->next;
  }
  if (chain.chunks.empty()) {
    co_return Error{ErrorCode::kCorrupt,
                    std::string(KindName(name.kind)) + ": nowhere"};
  }
  co_return chain;
}

}  // namespace bootstream
