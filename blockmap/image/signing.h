#ifndef BLOCKMAP_IMAGE_SIGNING_H_
#define BLOCKMAP_IMAGE_SIGNING_H_

#include <array>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "blockmap/base/result.h"
#include "blockmap/base/types.h"

// Ed25519 (RFC 8032) keys in PEM (PKCS#8, SubjectPublicKeyInfo) as openssl
// makes them, and SHA-256.  Thread-safe: nothing is shared.

struct evp_md_ctx_st;
struct evp_pkey_st;

namespace bootstream {

using KeyId = std::array<std::byte, 8>;  // format.md 1.1
using Signature = std::array<std::byte, 64>;

Sha256 Sha256Of(std::span<const std::byte> data);
// The same, a piece at a time.
class Sha256Stream {
 public:
  Sha256Stream();
  void Update(std::span<const std::byte> data);
  // Once.
  Sha256 Finish();

 private:
  struct Free {
    void operator()(evp_md_ctx_st* context) const;
  };
  std::unique_ptr<evp_md_ctx_st, Free> context_;
};

std::string ToHex(std::span<const std::byte> bytes);
// `out.size()` bytes from exactly twice as many hex digits.
Status FromHex(std::string_view text, std::span<std::byte> out);

struct KeyDeleter {
  void operator()(evp_pkey_st* key) const;
};
using KeyHandle = std::unique_ptr<evp_pkey_st, KeyDeleter>;

class PublicKey {
 public:
  // kInvalid unless `path` holds one PEM Ed25519 public key.
  static Result<PublicKey> Load(const std::string& path);
  static Result<PublicKey> FromPem(std::string_view pem);
  const KeyId& id() const { return id_; }
  bool Verify(std::span<const std::byte> message,
              const Signature& signature) const;

 private:
  friend class PrivateKey;
  KeyHandle key_;
  KeyId id_{};
};

class PrivateKey {
 public:
  static Result<PrivateKey> Generate();
  static Result<PrivateKey> Load(const std::string& path);
  // Write `path` (private, mode 0600) and `path`.pub; refuses to overwrite
  // either.
  Status Save(const std::string& path) const;
  Result<PublicKey> public_key() const;
  Result<Signature> Sign(std::span<const std::byte> message) const;

 private:
  KeyHandle key_;
};

// The keys that may sign for us.
class TrustedKeys {
 public:
  void Add(PublicKey key) { keys_.push_back(std::move(key)); }
  // nullptr if no trusted key has that id.
  const PublicKey* Find(const KeyId& id) const;
  bool empty() const { return keys_.empty(); }

 private:
  std::vector<PublicKey> keys_;
};

}  // namespace bootstream

#endif  // BLOCKMAP_IMAGE_SIGNING_H_
