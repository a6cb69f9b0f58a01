// Small texts: image references and versions, hex, public keys.

#include "blockmap/image/manifest.h"
#include "blockmap/image/repository_client.h"
#include "blockmap/image/signing.h"
#include "tests/fuzz/fuzz.h"

namespace bootstream {

FUZZ_TARGET(names) {
  const std::string_view text = AsText(input);
  if (const auto reference = ParseImageReference(text)) {
    Require(CheckImageName(reference->name).has_value(), "the name is one");
    Require(reference->name.find('/') == std::string::npos,
            "a name never leads elsewhere");
    Require(reference->version.empty() ||
                ParseImageVersion(reference->version).has_value(),
            "the version is one");
  }
  if (const auto version = ParseImageVersion(text)) {
    std::string plain;
    for (int shift = 48; shift >= 0; shift -= 16) {
      plain += (plain.empty() ? "" : ".") +
               std::to_string(*version >> shift & 0xffff);
    }
    Require(ParseImageVersion(plain).value_or(0) == *version,
            "a version is its number");
  }
  std::vector<std::byte> bytes(input.size() / 2);
  if (FromHex(text, bytes)) {
    const std::string hex = ToHex(bytes);
    std::vector<std::byte> again(bytes.size());
    Require(FromHex(hex, again) && again == bytes, "hex means its bytes");
  }
  // Libcrypto looks at whatever else it is for long.
  if (text.find("-----BEGIN ") != std::string_view::npos) {
    (void)PublicKey::FromPem(text);
  }
}

}  // namespace bootstream
