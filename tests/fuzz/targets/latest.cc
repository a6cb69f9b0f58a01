// The signed pointer `latest`; its lines are signed anew, so that what a
// signature guards is reached.

#include "blockmap/image/latest.h"

#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/fuzz_keys.h"

namespace bootstream {
namespace {

constexpr std::string_view kName = "debian";
constexpr std::string_view kSignatureLine = "\nsignature ";
constexpr std::string_view kContext("bootstream latest v1\0", 21);

std::string SignedAnew(std::string_view lines) {
  const std::string message = std::string(kContext) + std::string(lines);
  const auto signature = FuzzKey().Sign(AsBytes(message));
  Require(signature.has_value(), "it can be signed");
  static const KeyId id = FuzzKey().public_key()->id();
  return std::string(lines) + "signature " + ToHex(id) + " " +
         ToHex(*signature) + "\n";
}

}  // namespace

FUZZ_TARGET(latest) {
  (void)OpenLatest(input, kName, FuzzTrustedKeys());
  const std::string_view text = AsText(input);
  const size_t end = text.find(kSignatureLine);
  if (end == std::string_view::npos || end > kLatestBytesMax) return;
  const std::string file = SignedAnew(text.substr(0, end + 1));
  const auto latest = OpenLatest(AsBytes(file), kName, FuzzTrustedKeys());
  if (!latest) {
    Require(latest.error().code != ErrorCode::kRefused, "the key is trusted");
    return;
  }
  Require(latest->name == kName, "it is about the image that was asked for");
  const auto again = EncodeLatest(*latest, FuzzKey());
  Require(again.has_value(), "what was read can be written");
  const auto same = OpenLatest(*again, kName, FuzzTrustedKeys());
  Require(same && same->version == latest->version &&
              same->manifest_digest == latest->manifest_digest,
          "written and read again it says the same");
}

}  // namespace bootstream
