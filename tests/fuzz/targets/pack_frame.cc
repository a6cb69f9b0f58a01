// One frame of a pack: the first three bytes say how long its content should
// be, the rest is the frame.

#include "blockmap/base/coding.h"
#include "blockmap/image/pack.h"
#include "blockmap/image/signing.h"
#include "tests/fuzz/fuzz.h"

namespace bootstream {

FUZZ_TARGET(pack_frame) {
  static FrameDecoder decoder;
  static FrameEncoder encoder(1);
  ByteReader in(input);
  const size_t size = (in.U8() | in.U16() << 8) % (kChunkBytesMax + 1);
  const auto frame = in.Bytes(in.remaining());
  // Of exactly this size, so that a byte too many is seen.
  std::vector<std::byte> content(size);
  if (!decoder.Decode(frame, content)) return;
  Require(decoder.DecodeVerified(frame, Sha256Of(content), content).has_value(),
          "decoded twice it is the same");
  Require(!decoder.DecodeVerified(frame, Sha256{}, content),
          "a wrong digest is refused");
  const auto again = encoder.Encode(content);
  Require(again.has_value(), "content can be packed");
  std::vector<std::byte> unpacked(size);
  Require(decoder.Decode(*again, unpacked) && unpacked == content,
          "packed and unpacked it is the same");
}

}  // namespace bootstream
