#include <cassert>
#include <string>
#include <type_traits>
#include <utility>

#include "blockmap/base/coding.h"
#include "blockmap/map/journal.h"

namespace bootstream {
namespace {

enum class Kind : uint8_t { kSet = 1, kRelocation, kPatch, kContinue };

void Put(ByteWriter& out, const SetRecord& record) {
  out.U8(static_cast<uint8_t>(Kind::kSet));
  out.U64(record.chunk.value);
  out.U64(record.state.location.raw());
  out.U64(record.state.valid);
  out.U64(record.state.dirty);
}

void Put(ByteWriter& out, const RelocationRecord& record) {
  out.U8(static_cast<uint8_t>(Kind::kRelocation));
  out.U64(record.source.value);
  out.U64(record.now ? record.now->value : kNone);
}

void Put(ByteWriter& out, const PatchRecord& record) {
  assert(record.patch.data.size() <= kPatchBytesMax);
  out.U8(static_cast<uint8_t>(Kind::kPatch));
  out.U64(record.chunk.value);
  out.U32(record.patch.offset);
  out.U16(static_cast<uint16_t>(record.patch.data.size()));
  out.Bytes(record.patch.data);
}

void Put(ByteWriter& out, const ContinueRecord& record) {
  out.U8(static_cast<uint8_t>(Kind::kContinue));
  out.U64(record.epoch);
  out.U64(record.chunk.value);
}

Record GetSet(ByteReader& in) {
  SetRecord record;
  record.chunk.value = in.U64();
  record.state.location = Location::FromRaw(in.U64());
  record.state.valid = in.U64();
  record.state.dirty = in.U64();
  return record;
}

Record GetRelocation(ByteReader& in) {
  RelocationRecord record;
  record.source.value = in.U64();
  const uint64_t now = in.U64();
  if (now != kNone) record.now = DiskChunk{now};
  return record;
}

Record GetPatch(ByteReader& in) {
  PatchRecord record;
  record.chunk.value = in.U64();
  record.patch.offset = in.U32();
  const auto data = in.Bytes(in.U16());
  record.patch.data.assign(data.begin(), data.end());
  return record;
}

Record GetContinue(ByteReader& in) {
  ContinueRecord record;
  record.epoch = in.U64();
  record.chunk.value = in.U64();
  return record;
}

}  // namespace

void EncodeRecord(const Record& record, std::vector<std::byte>& out) {
  ByteWriter writer(out);
  std::visit([&writer](const auto& r) { Put(writer, r); }, record);
}

void RecordBatch::Add(const Record& record) {
  std::vector<std::byte> bytes;
  EncodeRecord(record, bytes);
  assert(bytes.size() <= kJournalPayloadBytes);
  if (payloads_.empty() ||
      payloads_.back().size() + bytes.size() > kJournalPayloadBytes) {
    payloads_.emplace_back();
  }
  payloads_.back().insert(payloads_.back().end(), bytes.begin(), bytes.end());
}

Result<std::vector<Record>> DecodeRecords(std::span<const std::byte> payload) {
  std::vector<Record> records;
  ByteReader in(payload);
  while (in.remaining() != 0) {
    const uint8_t kind = in.U8();
    switch (static_cast<Kind>(kind)) {
      case Kind::kSet:
        records.push_back(GetSet(in));
        break;
      case Kind::kRelocation:
        records.push_back(GetRelocation(in));
        break;
      case Kind::kPatch:
        records.push_back(GetPatch(in));
        break;
      case Kind::kContinue:
        records.push_back(GetContinue(in));
        break;
      default:
        return Error{ErrorCode::kUnsupported,
                     "journal: unknown kind of record " + std::to_string(kind)};
    }
    if (!in.ok()) {
      return Error{ErrorCode::kCorrupt, "journal: a record is cut short"};
    }
  }
  return records;
}

}  // namespace bootstream
