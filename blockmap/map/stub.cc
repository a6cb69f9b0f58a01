#include <algorithm>
#include <cassert>
#include <string_view>
#include <vector>

#include "blockmap/base/coding.h"
#include "blockmap/map/sealed.h"
#include "blockmap/map/superblock.h"

namespace bootstream {
namespace {

constexpr std::string_view kMagic = "BSSTUB01";
constexpr size_t kCodeBytes = 256;
constexpr size_t kTrailerAt = 440;
constexpr size_t kSignatureAt = 510;
constexpr size_t kFieldsEnd = 400;

// Real mode, loaded at 0000:7c00.  Prints kMessage by the BIOS's teletype
// service and asks for the next boot device; a BIOS that comes back from that
// finds the processor halted.
constexpr std::array<uint8_t, 35> kBootCode = {
    0xfa,              // 00  cli
    0x31, 0xc0,        // 01  xor  ax, ax
    0x8e, 0xd8,        // 03  mov  ds, ax
    0x8e, 0xd0,        // 05  mov  ss, ax
    0xbc, 0x00, 0x7c,  // 07  mov  sp, 0x7c00
    0xfb,              // 0a  sti
    0xfc,              // 0b  cld
    0xbe, 0x23, 0x7c,  // 0c  mov  si, 0x7c23   ; kMessage
    0xac,              // 0f  lodsb
    0x84, 0xc0,        // 10  test al, al
    0x74, 0x09,        // 12  jz   0x1d
    0xb4, 0x0e,        // 14  mov  ah, 0x0e     ; teletype
    0xbb, 0x07, 0x00,  // 16  mov  bx, 0x0007   ; page 0, grey
    0xcd, 0x10,        // 19  int  0x10
    0xeb, 0xf2,        // 1b  jmp  0x0f
    0xcd, 0x18,        // 1d  int  0x18         ; next boot device
    0xf4,              // 1f  hlt
    0xeb, 0xfd,        // 20  jmp  0x1f
    0x90,              // 22  nop
};
constexpr std::string_view kMessage =
    "\r\nbootstream: this disk is between two systems.\r\n"
    "Boot the bootstream agent from the network to continue or to go back.\r\n";
static_assert(kBootCode.size() == 0x23, "the code names the message's place");
static_assert(kBootCode.size() + kMessage.size() + 1 <= kCodeBytes);

void PutBootCode(ByteWriter& out) {
  out.Bytes(std::as_bytes(std::span(kBootCode)));
  out.Bytes(std::as_bytes(std::span(kMessage)));
  out.PadTo(kCodeBytes);
}

bool HasSignature(std::span<const std::byte> sector) {
  return sector[kSignatureAt] == std::byte{0x55} &&
         sector[kSignatureAt + 1] == std::byte{0xaa};
}

}  // namespace

std::array<std::byte, kSectorBytes> EncodeStub(const Stub& stub) {
  std::vector<std::byte> bytes;
  ByteWriter out(bytes);
  PutBootCode(out);
  PutMagic(out, kMagic);
  out.U32(0);
  out.U32(stub.chunk_bytes);
  PutFeatures(out, stub.features);
  out.Bytes(stub.migration_id);
  PutIdentity(out, stub.disk);
  for (const DiskChunk chunk : stub.superblock_chunks) out.U64(chunk.value);
  assert(out.size() == kFieldsEnd);
  std::array<std::byte, kSectorBytes> sector{};
  std::copy(bytes.begin(), bytes.end(), sector.begin());
  Seal(std::span(sector).subspan(kCodeBytes, kTrailerAt - kCodeBytes));
  sector[kSignatureAt] = std::byte{0x55};
  sector[kSignatureAt + 1] = std::byte{0xaa};
  return sector;
}

Result<Stub> DecodeStub(std::span<const std::byte> sector) {
  assert(sector.size() == kSectorBytes);
  const auto sealed = sector.subspan(kCodeBytes, kTrailerAt - kCodeBytes);
  if (auto s = CheckSeal(sealed, kMagic, "stub"); !s) return s.error();
  if (!HasSignature(sector)) {
    return Error{ErrorCode::kNotFound, "no stub here: no boot signature"};
  }
  ByteReader in(sealed);
  in.Skip(kMagic.size() + sizeof(uint32_t));
  Stub stub;
  stub.chunk_bytes = in.U32();
  const auto features = GetFeatures(in, "stub");
  if (!features) return features.error();
  stub.features = *features;
  stub.migration_id = in.Array<16>();
  const auto disk = GetIdentity(in, "stub");
  if (!disk) return disk.error();
  stub.disk = *disk;
  for (DiskChunk& chunk : stub.superblock_chunks) chunk.value = in.U64();
  if (!IsChunkSize(stub.chunk_bytes) ||
      stub.superblock_chunks[0] == stub.superblock_chunks[1] ||
      !AllZero(sector.subspan(kFieldsEnd, kSignatureAt - kFieldsEnd))) {
    return Error{ErrorCode::kCorrupt, "stub: a field makes no sense"};
  }
  return stub;
}

}  // namespace bootstream
