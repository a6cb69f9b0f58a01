#include "blockmap/image/manifest.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <string_view>

#include "blockmap/image/manifest_check.h"
#include "blockmap/image/manifest_codec.h"

namespace bootstream {
namespace {

constexpr std::string_view kContext("bootstream manifest v1\0", 23);
constexpr size_t kNameMax = 63;
constexpr size_t kVersionPartsMax = 4;

Error Invalid(std::string message) {
  return Error{ErrorCode::kInvalid, std::move(message)};
}

std::vector<std::byte> SignedMessage(const Sha256& digest) {
  const auto context = std::as_bytes(std::span(kContext));
  std::vector<std::byte> message(context.size() + digest.size());
  std::memcpy(message.data(), context.data(), context.size());
  std::memcpy(message.data() + context.size(), digest.data(), digest.size());
  return message;
}

Status CheckSignatures(const ManifestEnvelope& envelope, const Sha256& digest,
                       const TrustedKeys& keys) {
  bool known = false;
  std::string ids;
  const auto message = SignedMessage(digest);
  for (const auto& [id, signature] : envelope.signatures) {
    ids += (ids.empty() ? "" : ", ") + ToHex(id);
    const PublicKey* key = keys.Find(id);
    if (key == nullptr) continue;
    if (key->Verify(message, signature)) return OkStatus();
    known = true;
  }
  if (known) {
    return Error{ErrorCode::kCorrupt,
                 "manifest: the signature does not match: it was altered"};
  }
  return Error{ErrorCode::kRefused,
               "manifest: signed by key " + ids + ", which is not trusted"};
}

bool IsNameCharacter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' ||
         c == '_' || c == '-';
}

// A decimal number below 65536 without leading zeroes.
Result<uint64_t> ParsePart(std::string_view text) {
  uint16_t value = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() ||
      (text.size() > 1 && text[0] == '0')) {
    return Invalid("");
  }
  return value;
}

}  // namespace

Result<uint64_t> ParseImageVersion(std::string_view text) {
  const Error wrong = Invalid("'" + std::string(text) +
                              "' is no version: one to four numbers below "
                              "65536 joined by dots are");
  uint64_t version = 0;
  std::string_view rest = text;
  for (size_t part = 0; part < kVersionPartsMax; ++part) {
    const size_t dot = rest.find('.');
    const auto value = ParsePart(rest.substr(0, dot));
    if (!value) return wrong;
    version |= *value << (48 - 16 * part);
    if (dot == std::string_view::npos) return version;
    rest.remove_prefix(dot + 1);
  }
  return wrong;
}

Status CheckImageName(std::string_view name) {
  if (name.empty() || name.size() > kNameMax ||
      !std::all_of(name.begin(), name.end(), IsNameCharacter) ||
      name[0] == '.' || name[0] == '_' || name[0] == '-') {
    return Invalid("'" + std::string(name) +
                   "' is no image name: up to 63 of a-z 0-9 . _ -, the first "
                   "a letter or digit, are");
  }
  return OkStatus();
}

Result<Manifest> Manifest::Open(std::span<const std::byte> file,
                                const TrustedKeys& keys) {
  const auto envelope = OpenEnvelope(file);
  if (!envelope) return envelope.error();
  const Sha256 digest = Sha256Of(envelope->body);
  if (auto status = CheckSignatures(*envelope, digest, keys); !status) {
    return status.error();
  }
  return Parse(envelope->body, digest);
}

Result<Manifest> Manifest::OpenPinned(std::span<const std::byte> file,
                                      const Sha256& digest) {
  const auto envelope = OpenEnvelope(file);
  if (!envelope) return envelope.error();
  if (Sha256Of(envelope->body) != digest) {
    return Error{
        ErrorCode::kCorrupt,
        "manifest: not the pinned one, whose digest is " + ToHex(digest)};
  }
  return Parse(envelope->body, digest);
}

Result<Manifest> Manifest::Parse(std::span<const std::byte> body,
                                 const Sha256& digest) {
  auto content = DecodeBody(body);
  if (!content) return content.error();
  Manifest manifest;
  manifest.content_ = std::move(*content);
  manifest.version_ = ParseImageVersion(manifest.content_.version).value_or(0);
  manifest.digest_ = digest;
  manifest.boot_by_address_ = ByAddress(manifest.content_.boot_set);
  return manifest;
}

Result<std::vector<std::byte>> Manifest::Encode(
    const ManifestContent& content, std::span<const PrivateKey* const> keys) {
  if (auto status = CheckContent(content); !status) {
    Error error = status.error();
    error.code = ErrorCode::kInvalid;
    return error;
  }
  if (keys.empty() || keys.size() > kSignaturesMax) {
    return Invalid("manifest: needs 1 to 16 keys to sign");
  }
  auto file = EncodeBody(content);
  if (!file) return file.error();
  const auto message = SignedMessage(Sha256Of(*file));
  std::vector<std::pair<KeyId, Signature>> signatures;
  for (const PrivateKey* key : keys) {
    const auto public_key = key->public_key();
    if (!public_key) return public_key.error();
    const auto signature = key->Sign(message);
    if (!signature) return signature.error();
    signatures.emplace_back(public_key->id(), *signature);
  }
  AppendTrailer(signatures, *file);
  return file;
}

const ChunkEntry* Manifest::Find(ImageChunk chunk) const {
  const auto& runs = content_.runs;
  const auto after = std::upper_bound(
      runs.begin(), runs.end(), chunk.value,
      [](uint64_t value, const ChunkRun& run) { return value < run.first; });
  if (after == runs.begin()) return nullptr;
  const ChunkRun& run = *std::prev(after);
  const uint64_t index = chunk.value - run.first;
  return index < run.count ? &content_.chunks[run.entry + index] : nullptr;
}

bool Manifest::Matches(ImageChunk chunk,
                       std::span<const std::byte> content) const {
  if (content.size() != grid().bytes_of(chunk.value)) return false;
  if (const ChunkEntry* entry = Find(chunk)) {
    return Sha256Of(content) == entry->digest;
  }
  return std::ranges::all_of(content,
                             [](std::byte b) { return b == std::byte{0}; });
}

bool Manifest::InBootSet(ImageChunk chunk) const {
  return Holds(boot_by_address_, chunk.value);
}

bool Manifest::IsPinned(ImageChunk chunk) const {
  return Holds(content_.pinned, chunk.value);
}

}  // namespace bootstream
