// The pure half of NBD: option headers, INFO and GO, requests.

#include "blockmap/nbd/nbd_protocol.h"

#include "blockmap/base/coding.h"
#include "tests/fuzz/fuzz.h"

namespace bootstream {

FUZZ_TARGET(nbd_protocol) {
  ByteReader in(input);
  const uint64_t size = in.U64();
  const bool read_only = (in.U8() & 1) != 0;
  const auto rest = in.Bytes(in.remaining());
  if (rest.size() >= 16) {
    const auto header = DecodeNbdOptionHeader(rest.first<16>());
    Require(!header || header->length <= kNbdOptionBytesMax,
            "options have a bound");
  }
  if (const auto info = DecodeNbdInfoRequest(rest)) {
    Require(
        6 + info->export_name.size() + 2 * info->items.size() == rest.size(),
        "an INFO is as long as its parts");
  }
  if (rest.size() < kNbdRequestBytes) return;
  const auto request = DecodeNbdRequest(rest.first<kNbdRequestBytes>());
  if (!request ||
      CheckNbdRequest(*request, size, read_only) != NbdError::kNone) {
    return;
  }
  if (request->is(NbdCommand::kFlush)) return;
  Require(request->offset < size && request->length > 0 &&
              request->length <= size - request->offset,
          "a request that is taken lies inside the device");
  Require(!read_only || request->is(NbdCommand::kRead),
          "nothing is written to what is read-only");
}

}  // namespace bootstream
