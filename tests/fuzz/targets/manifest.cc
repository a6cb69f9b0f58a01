// A manifest file as a server sends it.  The digest is taken from the input
// itself, and the length in the header is made right, so that the structure
// behind both is reached.

#include "blockmap/image/manifest.h"

#include "blockmap/base/coding.h"
#include "blockmap/image/manifest_check.h"
#include "blockmap/image/manifest_codec.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/fuzz_keys.h"

namespace bootstream {
namespace {

constexpr size_t kBodyBytesAt = 32;

void LookAround(const Manifest& manifest) {
  const Grid grid = manifest.grid();
  Require(grid.chunk_count() > 0, "an image is not empty");
  for (const ChunkRun& run : manifest.content().runs) {
    const ImageChunk last{run.first + run.count - 1};
    Require(last.value < grid.chunk_count(), "runs lie inside the image");
    Require(manifest.Find(ImageChunk{run.first}) != nullptr &&
                manifest.Find(last) != nullptr &&
                manifest.Find(ImageChunk{last.value + 1}) == nullptr,
            "a run holds data from its first chunk to its last");
  }
  for (const ChunkExtent& extent : manifest.content().boot_set) {
    Require(manifest.InBootSet(ImageChunk{extent.first + extent.count - 1}),
            "the boot set knows its chunks");
  }
  for (const ChunkExtent& extent : manifest.content().pinned) {
    Require(manifest.IsPinned(ImageChunk{extent.first}),
            "pinned ranges know their chunks");
  }
  Require(manifest.IsZero(ImageChunk{~uint64_t{0}}), "beyond the end is zero");
}

// What was understood can be written, and means the same when read again.
void WriteAgain(const ManifestContent& content) {
  const auto body = EncodeBody(content);
  Require(body.has_value(), "what was read can be written");
  const auto again = DecodeBody(*body);
  Require(again.has_value(), "what was written can be read");
  const auto twice = EncodeBody(*again);
  Require(twice && *twice == *body, "written twice it is the same");
  const PrivateKey* signer = &FuzzKey();
  const auto file = Manifest::Encode(content, {&signer, 1});
  Require(file.has_value(), "it can be signed");
  const auto opened = Manifest::Open(*file, FuzzTrustedKeys());
  Require(opened.has_value(), "what we sign we take");
  Require(opened->digest() == Sha256Of(*body), "the digest is the body's");
  LookAround(*opened);
}

}  // namespace

FUZZ_TARGET(manifest) {
  const auto envelope = OpenEnvelope(input);
  Require(!Manifest::OpenPinned(input, Sha256{}), "a wrong digest is refused");
  (void)Manifest::Open(input, FuzzTrustedKeys());
  if (envelope) {
    const auto opened = Manifest::OpenPinned(input, Sha256Of(envelope->body));
    Require(opened.has_value() == DecodeBody(envelope->body).has_value(),
            "a pinned manifest is as good as its body");
    if (opened) LookAround(*opened);
  }
  std::vector<std::byte> body(input.begin(), input.end());
  if (body.size() < kBodyBytesAt + 8) return;
  StoreLe<uint64_t>(std::span(body).subspan<kBodyBytesAt, 8>(), body.size());
  if (const auto content = DecodeBody(body)) WriteAgain(*content);
}

}  // namespace bootstream
