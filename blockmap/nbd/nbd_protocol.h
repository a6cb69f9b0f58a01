#ifndef BLOCKMAP_NBD_NBD_PROTOCOL_H_
#define BLOCKMAP_NBD_NBD_PROTOCOL_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "blockmap/base/result.h"

// The bytes of the NBD protocol, server side: fixed newstyle handshake, simple
// replies.  Pure functions over spans; all integers are big-endian.  What a
// client sends is checked here; an error is kInvalid.
// Source: github.com/NetworkBlockDevice/nbd, doc/proto.md.

namespace bootstream {

// Handshake.
inline constexpr uint64_t kNbdMagic = 0x4e42444d41474943;        // "NBDMAGIC"
inline constexpr uint64_t kNbdOptionMagic = 0x49484156454F5054;  // "IHAVEOPT"
inline constexpr uint64_t kNbdOptionReplyMagic = 0x3e889045565a9;
inline constexpr uint16_t kNbdFixedNewstyle = 1 << 0;
inline constexpr uint16_t kNbdNoZeroes = 1 << 1;

// Transmission.
inline constexpr uint32_t kNbdRequestMagic = 0x25609513;
inline constexpr uint32_t kNbdReplyMagic = 0x67446698;
inline constexpr size_t kNbdRequestBytes = 28;
inline constexpr size_t kNbdReplyBytes = 16;

// What we agree to: the largest READ or WRITE, and the longest option.  A
// name may have 4096 bytes; an INFO or GO adds six and two for each item.
inline constexpr uint32_t kNbdPayloadBytesMax = 32 << 20;
inline constexpr uint32_t kNbdOptionBytesMax = 16 << 10;

enum class NbdOption : uint32_t {
  kExportName = 1,
  kAbort = 2,
  kList = 3,
  kStartTls = 5,
  kInfo = 6,
  kGo = 7,
  kStructuredReply = 8,
};

enum class NbdOptionReply : uint32_t {
  kAck = 1,
  kServer = 2,
  kInfo = 3,
  kErrUnsupported = (1U << 31) + 1,
  kErrPolicy = (1U << 31) + 2,
  kErrInvalid = (1U << 31) + 3,
  kErrUnknown = (1U << 31) + 6,
};

enum class NbdInfo : uint16_t { kExport = 0, kBlockSize = 3 };

// Transmission flags: what an export can do.
inline constexpr uint16_t kNbdHasFlags = 1 << 0;
inline constexpr uint16_t kNbdReadOnly = 1 << 1;
inline constexpr uint16_t kNbdSendFlush = 1 << 2;
inline constexpr uint16_t kNbdSendFua = 1 << 3;
inline constexpr uint16_t kNbdSendTrim = 1 << 5;
inline constexpr uint16_t kNbdSendWriteZeroes = 1 << 6;
inline constexpr uint16_t kNbdCanMultiConn = 1 << 8;

enum class NbdCommand : uint16_t {
  kRead = 0,
  kWrite = 1,
  kDisconnect = 2,
  kFlush = 3,
  kTrim = 4,
  kWriteZeroes = 6,
};

inline constexpr uint16_t kNbdFlagFua = 1 << 0;
inline constexpr uint16_t kNbdFlagNoHole = 1 << 1;

enum class NbdError : uint32_t {
  kNone = 0,
  kPermission = 1,
  kIo = 5,
  kInvalid = 22,
  kNoSpace = 28,
};

struct NbdOptionHeader {
  uint32_t option = 0;  // an NbdOption, or one we do not know
  uint32_t length = 0;  // bytes of data that follow
};

// The data of NBD_OPT_INFO and NBD_OPT_GO.
struct NbdInfoRequest {
  std::string export_name;
  std::vector<uint16_t> items;
};

struct NbdRequest {
  uint16_t flags = 0;
  uint16_t command = 0;  // an NbdCommand, or one we do not know
  uint64_t cookie = 0;   // the client's; comes back with the reply
  uint64_t offset = 0;
  uint32_t length = 0;

  bool is(NbdCommand wanted) const {
    return command == static_cast<uint16_t>(wanted);
  }
  bool fua() const { return (flags & kNbdFlagFua) != 0; }
};

// What an export with these abilities says of itself.
uint16_t NbdTransmissionFlags(bool read_only);

Result<NbdOptionHeader> DecodeNbdOptionHeader(
    std::span<const std::byte, 16> in);
Result<NbdInfoRequest> DecodeNbdInfoRequest(std::span<const std::byte> in);
Result<NbdRequest> DecodeNbdRequest(
    std::span<const std::byte, kNbdRequestBytes> in);
uint32_t DecodeNbdClientFlags(std::span<const std::byte, 4> in);

// May `request` be carried out on an export of `size_bytes`?  Flags, command,
// length and range, so that nothing can overflow afterwards.  A READ or WRITE
// of nothing is refused, as is a payload above kNbdPayloadBytesMax.
NbdError CheckNbdRequest(const NbdRequest& request, uint64_t size_bytes,
                         bool read_only);

std::vector<std::byte> EncodeNbdGreeting();
std::vector<std::byte> EncodeNbdOptionReply(uint32_t option,
                                            NbdOptionReply reply,
                                            std::span<const std::byte> data);
// The answer to NBD_OPT_EXPORT_NAME; `zeroes` unless both sides said NO_ZEROES.
std::vector<std::byte> EncodeNbdExportName(uint64_t size_bytes, uint16_t flags,
                                           bool zeroes);
// Data of option replies.
std::vector<std::byte> EncodeNbdInfoExport(uint64_t size_bytes, uint16_t flags);
std::vector<std::byte> EncodeNbdInfoBlockSize();
std::vector<std::byte> EncodeNbdServer(std::string_view export_name);

std::array<std::byte, kNbdReplyBytes> EncodeNbdReply(NbdError error,
                                                     uint64_t cookie);

}  // namespace bootstream

#endif  // BLOCKMAP_NBD_NBD_PROTOCOL_H_
