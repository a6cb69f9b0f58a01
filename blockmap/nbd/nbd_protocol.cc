#include "blockmap/nbd/nbd_protocol.h"

#include "blockmap/nbd/big_endian.h"

namespace bootstream {
namespace {

constexpr uint32_t kBlockSizeMin = 1;
constexpr uint32_t kBlockSizePreferred = 4096;
constexpr size_t kExportNameZeroes = 124;

Error Invalid(std::string what) {
  return Error{ErrorCode::kInvalid, "nbd: " + std::move(what)};
}

// Flags that `command` may carry.
uint16_t FlagsAllowed(NbdCommand command) {
  return command == NbdCommand::kWriteZeroes ? kNbdFlagFua | kNbdFlagNoHole
                                             : kNbdFlagFua;
}

void Append(std::vector<std::byte>& out, std::span<const std::byte> bytes) {
  out.insert(out.end(), bytes.begin(), bytes.end());
}

}  // namespace

uint16_t NbdTransmissionFlags(bool read_only) {
  const uint16_t always = kNbdHasFlags | kNbdSendFlush | kNbdCanMultiConn;
  if (read_only) return always | kNbdReadOnly;
  return always | kNbdSendFua | kNbdSendTrim | kNbdSendWriteZeroes;
}

Result<NbdOptionHeader> DecodeNbdOptionHeader(
    std::span<const std::byte, 16> in) {
  if (LoadBe<uint64_t>(in) != kNbdOptionMagic) {
    return Invalid("an option does not begin with IHAVEOPT");
  }
  NbdOptionHeader header;
  header.option = LoadBe<uint32_t>(in.subspan(8));
  header.length = LoadBe<uint32_t>(in.subspan(12));
  if (header.length > kNbdOptionBytesMax) {
    return Invalid("an option of " + std::to_string(header.length) + " bytes");
  }
  return header;
}

Result<NbdInfoRequest> DecodeNbdInfoRequest(std::span<const std::byte> in) {
  if (in.size() < 6) return Invalid("an INFO or GO option is too short");
  const auto name_length = LoadBe<uint32_t>(in);
  // Both lengths were compared as size_t: no sum of theirs can wrap.
  if (name_length > in.size() - 6) {
    return Invalid("an export name reaches past its option");
  }
  NbdInfoRequest request;
  const auto name = in.subspan(4, name_length);
  request.export_name.assign(reinterpret_cast<const char*>(name.data()),
                             name.size());
  const auto tail = in.subspan(4 + size_t{name_length});
  const size_t count = LoadBe<uint16_t>(tail);
  if (tail.size() != 2 + 2 * count) {
    return Invalid("an INFO or GO option counts its items wrongly");
  }
  for (size_t i = 0; i < count; ++i) {
    request.items.push_back(LoadBe<uint16_t>(tail.subspan(2 + 2 * i)));
  }
  return request;
}

Result<NbdRequest> DecodeNbdRequest(
    std::span<const std::byte, kNbdRequestBytes> in) {
  if (LoadBe<uint32_t>(in) != kNbdRequestMagic) {
    return Invalid("a request does not begin with its magic number");
  }
  NbdRequest request;
  request.flags = LoadBe<uint16_t>(in.subspan(4));
  request.command = LoadBe<uint16_t>(in.subspan(6));
  request.cookie = LoadBe<uint64_t>(in.subspan(8));
  request.offset = LoadBe<uint64_t>(in.subspan(16));
  request.length = LoadBe<uint32_t>(in.subspan(24));
  return request;
}

uint32_t DecodeNbdClientFlags(std::span<const std::byte, 4> in) {
  return LoadBe<uint32_t>(in);
}

NbdError CheckNbdRequest(const NbdRequest& request, uint64_t size_bytes,
                         bool read_only) {
  const auto command = static_cast<NbdCommand>(request.command);
  switch (command) {
    case NbdCommand::kFlush:
      // Offset and length are reserved; old kernels leave them undefined.
      return request.flags & ~FlagsAllowed(command) ? NbdError::kInvalid
                                                    : NbdError::kNone;
    case NbdCommand::kRead:
    case NbdCommand::kWrite:
    case NbdCommand::kTrim:
    case NbdCommand::kWriteZeroes:
      break;
    default:
      return NbdError::kInvalid;
  }
  if (request.flags & ~FlagsAllowed(command)) return NbdError::kInvalid;
  const bool read = command == NbdCommand::kRead;
  if (read_only && !read) return NbdError::kPermission;
  const bool payload = read || command == NbdCommand::kWrite;
  if (request.length == 0) return NbdError::kInvalid;
  if (payload && request.length > kNbdPayloadBytesMax) {
    return NbdError::kInvalid;
  }
  const bool outside = request.offset > size_bytes ||
                       request.length > size_bytes - request.offset;
  if (!outside) return NbdError::kNone;
  const bool writes =
      command == NbdCommand::kWrite || command == NbdCommand::kWriteZeroes;
  return writes ? NbdError::kNoSpace : NbdError::kInvalid;
}

std::vector<std::byte> EncodeNbdGreeting() {
  std::vector<std::byte> out;
  AppendBe(out, kNbdMagic);
  AppendBe(out, kNbdOptionMagic);
  AppendBe<uint16_t>(out, kNbdFixedNewstyle | kNbdNoZeroes);
  return out;
}

std::vector<std::byte> EncodeNbdOptionReply(uint32_t option,
                                            NbdOptionReply reply,
                                            std::span<const std::byte> data) {
  std::vector<std::byte> out;
  AppendBe(out, kNbdOptionReplyMagic);
  AppendBe(out, option);
  AppendBe(out, static_cast<uint32_t>(reply));
  AppendBe(out, static_cast<uint32_t>(data.size()));
  Append(out, data);
  return out;
}

std::vector<std::byte> EncodeNbdExportName(uint64_t size_bytes, uint16_t flags,
                                           bool zeroes) {
  std::vector<std::byte> out;
  AppendBe(out, size_bytes);
  AppendBe(out, flags);
  if (zeroes) out.resize(out.size() + kExportNameZeroes);
  return out;
}

std::vector<std::byte> EncodeNbdInfoExport(uint64_t size_bytes,
                                           uint16_t flags) {
  std::vector<std::byte> out;
  AppendBe(out, static_cast<uint16_t>(NbdInfo::kExport));
  AppendBe(out, size_bytes);
  AppendBe(out, flags);
  return out;
}

std::vector<std::byte> EncodeNbdInfoBlockSize() {
  std::vector<std::byte> out;
  AppendBe(out, static_cast<uint16_t>(NbdInfo::kBlockSize));
  AppendBe(out, kBlockSizeMin);
  AppendBe(out, kBlockSizePreferred);
  AppendBe(out, kNbdPayloadBytesMax);
  return out;
}

std::vector<std::byte> EncodeNbdServer(std::string_view export_name) {
  std::vector<std::byte> out;
  AppendBe(out, static_cast<uint32_t>(export_name.size()));
  Append(out, std::as_bytes(std::span(export_name)));
  return out;
}

std::array<std::byte, kNbdReplyBytes> EncodeNbdReply(NbdError error,
                                                     uint64_t cookie) {
  std::array<std::byte, kNbdReplyBytes> out;
  StoreBe(std::span(out), kNbdReplyMagic);
  StoreBe(std::span(out).subspan(4), static_cast<uint32_t>(error));
  StoreBe(std::span(out).subspan(8), cookie);
  return out;
}

}  // namespace bootstream
