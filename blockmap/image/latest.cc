#include "blockmap/image/latest.h"

#include <string_view>

#include "blockmap/image/manifest.h"

namespace bootstream {
namespace {

constexpr std::string_view kFirstLine = "bootstream-latest 1\n";
constexpr std::string_view kContext("bootstream latest v1\0", 21);

Error Malformed(const std::string& what) {
  return Error{ErrorCode::kCorrupt, "latest: " + what};
}

std::vector<std::byte> SignedMessage(std::string_view lines) {
  std::string message(kContext);
  message += lines;
  const auto bytes = std::as_bytes(std::span(message));
  return {bytes.begin(), bytes.end()};
}

// The value of the line "KEY VALUE\n" at the head of `text`, which it leaves
// behind.
Result<std::string> TakeLine(std::string_view& text, std::string_view key) {
  const size_t end = text.find('\n');
  if (end == std::string_view::npos || !text.starts_with(key) ||
      end <= key.size() || text[key.size()] != ' ') {
    return Malformed("no line '" + std::string(key) + "' where it should be");
  }
  const std::string value(text.substr(key.size() + 1, end - key.size() - 1));
  text.remove_prefix(end + 1);
  return value;
}

Status CheckSignature(std::string_view lines, const std::string& value,
                      const TrustedKeys& keys) {
  KeyId id{};
  Signature signature{};
  const size_t space = value.find(' ');
  if (space == std::string::npos ||
      !FromHex(std::string_view(value).substr(0, space), id) ||
      !FromHex(std::string_view(value).substr(space + 1), signature)) {
    return Malformed("the signature line is not two hex numbers");
  }
  const PublicKey* key = keys.Find(id);
  if (key == nullptr) {
    return Error{ErrorCode::kRefused, "latest: signed by key " + ToHex(id) +
                                          ", which is not trusted"};
  }
  if (!key->Verify(SignedMessage(lines), signature)) {
    return Malformed("the signature does not match: the file was altered");
  }
  return OkStatus();
}

}  // namespace

Result<std::vector<std::byte>> EncodeLatest(const Latest& latest,
                                            const PrivateKey& key) {
  if (auto status = CheckImageName(latest.name); !status) return status.error();
  if (auto version = ParseImageVersion(latest.version); !version) {
    return version.error();
  }
  std::string text(kFirstLine);
  text += "name " + latest.name + "\n";
  text += "version " + latest.version + "\n";
  text += "manifest " + ToHex(latest.manifest_digest) + "\n";
  const auto signature = key.Sign(SignedMessage(text));
  if (!signature) return signature.error();
  const auto public_key = key.public_key();
  if (!public_key) return public_key.error();
  text +=
      "signature " + ToHex(public_key->id()) + " " + ToHex(*signature) + "\n";
  const auto bytes = std::as_bytes(std::span(text));
  return std::vector<std::byte>(bytes.begin(), bytes.end());
}

Result<Latest> OpenLatest(std::span<const std::byte> file,
                          std::string_view name, const TrustedKeys& keys) {
  if (file.size() > kLatestBytesMax) return Malformed("too long");
  const std::string_view whole(reinterpret_cast<const char*>(file.data()),
                               file.size());
  std::string_view rest = whole;
  if (!rest.starts_with(kFirstLine)) {
    if (!rest.starts_with("bootstream-latest ")) {
      return Malformed("not a pointer to an image");
    }
    return Error{ErrorCode::kUnsupported,
                 "latest: of a newer format; update this program"};
  }
  rest.remove_prefix(kFirstLine.size());
  auto found_name = TakeLine(rest, "name");
  if (!found_name) return found_name.error();
  auto version = TakeLine(rest, "version");
  if (!version) return version.error();
  const auto digest = TakeLine(rest, "manifest");
  if (!digest) return digest.error();
  const auto lines = whole.substr(0, whole.size() - rest.size());
  const auto signature = TakeLine(rest, "signature");
  if (!signature) return signature.error();
  if (!rest.empty()) return Malformed("bytes after its end");
  if (auto status = CheckSignature(lines, *signature, keys); !status) {
    return status.error();
  }
  Latest latest{std::move(*found_name), std::move(*version), {}};
  if (latest.name != name) {
    return Malformed("names image " + latest.name + " instead of " +
                     std::string(name));
  }
  if (auto number = ParseImageVersion(latest.version); !number) {
    return Malformed(number.error().message);
  }
  if (auto status = FromHex(*digest, latest.manifest_digest); !status) {
    return Malformed("manifest: " + status.error().message);
  }
  return latest;
}

}  // namespace bootstream
