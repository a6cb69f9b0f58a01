#include "blockmap/image/signing.h"

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <algorithm>
#include <cstdlib>

#include "blockmap/base/file_util.h"

namespace bootstream {
namespace {

constexpr uint64_t kPemBytesMax = uint64_t{64} << 10;

struct BioFree {
  void operator()(BIO* bio) const { BIO_free(bio); }
};
using BioHandle = std::unique_ptr<BIO, BioFree>;

struct DigestContextFree {
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};
using DigestContext = std::unique_ptr<EVP_MD_CTX, DigestContextFree>;

const unsigned char* Raw(const std::byte* data) {
  return reinterpret_cast<const unsigned char*>(data);
}
unsigned char* Raw(std::byte* data) {
  return reinterpret_cast<unsigned char*>(data);
}

// No passphrase is ever asked for on the terminal.
int NoPassphrase(char*, int, int, void*) { return -1; }

Result<std::string> ReadPem(const std::string& path) {
  const auto bytes = ReadWholeFile(path, kPemBytesMax);
  if (!bytes) return bytes.error();
  return std::string(reinterpret_cast<const char*>(bytes->data()),
                     bytes->size());
}

BioHandle Reading(std::string_view text) {
  return BioHandle(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

std::vector<std::byte> Contents(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  const auto bytes = std::as_bytes(std::span(data, static_cast<size_t>(size)));
  return {bytes.begin(), bytes.end()};
}

bool IsEd25519(const KeyHandle& key) {
  return key && EVP_PKEY_base_id(key.get()) == EVP_PKEY_ED25519;
}

Result<KeyId> IdOf(EVP_PKEY* key) {
  unsigned char* der = nullptr;
  const int size = i2d_PUBKEY(key, &der);
  if (size <= 0) return Error{ErrorCode::kInvalid, "key: cannot be encoded"};
  const Sha256 digest =
      Sha256Of(std::as_bytes(std::span(der, static_cast<size_t>(size))));
  OPENSSL_free(der);
  KeyId id{};
  std::copy_n(digest.begin(), id.size(), id.begin());
  return id;
}

}  // namespace

Sha256 Sha256Of(std::span<const std::byte> data) {
  Sha256 out{};
  unsigned int size = 0;
  if (EVP_Digest(data.data(), data.size(), Raw(out.data()), &size, EVP_sha256(),
                 nullptr) != 1) {
    std::abort();  // only without memory
  }
  return out;
}

Sha256Stream::Sha256Stream() : context_(EVP_MD_CTX_new()) {
  if (context_ == nullptr ||
      EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) != 1) {
    std::abort();
  }
}

void Sha256Stream::Free::operator()(evp_md_ctx_st* context) const {
  EVP_MD_CTX_free(context);
}

void Sha256Stream::Update(std::span<const std::byte> data) {
  if (EVP_DigestUpdate(context_.get(), data.data(), data.size()) != 1) {
    std::abort();
  }
}

Sha256 Sha256Stream::Finish() {
  Sha256 out{};
  unsigned int size = 0;
  if (EVP_DigestFinal_ex(context_.get(), Raw(out.data()), &size) != 1) {
    std::abort();
  }
  return out;
}

std::string ToHex(std::span<const std::byte> bytes) {
  static constexpr std::string_view kDigits = "0123456789abcdef";
  std::string out;
  out.reserve(bytes.size() * 2);
  for (const std::byte byte : bytes) {
    out += kDigits[std::to_integer<size_t>(byte >> 4)];
    out += kDigits[std::to_integer<size_t>(byte & std::byte{15})];
  }
  return out;
}

Status FromHex(std::string_view text, std::span<std::byte> out) {
  const auto digit = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
  };
  if (text.size() != out.size() * 2) {
    return Error{ErrorCode::kInvalid,
                 "expected " + std::to_string(out.size() * 2) + " hex digits"};
  }
  for (size_t i = 0; i < out.size(); ++i) {
    const int high = digit(text[2 * i]);
    const int low = digit(text[2 * i + 1]);
    if (high < 0 || low < 0) {
      return Error{ErrorCode::kInvalid, "not a hex digit"};
    }
    out[i] = static_cast<std::byte>(high * 16 + low);
  }
  return OkStatus();
}

void KeyDeleter::operator()(evp_pkey_st* key) const { EVP_PKEY_free(key); }

Result<PublicKey> PublicKey::Load(const std::string& path) {
  const auto pem = ReadPem(path);
  if (!pem) return pem.error();
  auto key = FromPem(*pem);
  if (!key) return Annotate(key.error(), path);
  return key;
}

Result<PublicKey> PublicKey::FromPem(std::string_view pem) {
  PublicKey out;
  const BioHandle bio = Reading(pem);
  out.key_.reset(
      PEM_read_bio_PUBKEY(bio.get(), nullptr, &NoPassphrase, nullptr));
  if (!IsEd25519(out.key_)) {
    return Error{ErrorCode::kInvalid, "not a PEM Ed25519 public key"};
  }
  const auto id = IdOf(out.key_.get());
  if (!id) return id.error();
  out.id_ = *id;
  return out;
}

bool PublicKey::Verify(std::span<const std::byte> message,
                       const Signature& signature) const {
  const DigestContext context(EVP_MD_CTX_new());
  return context &&
         EVP_DigestVerifyInit(context.get(), nullptr, nullptr, nullptr,
                              key_.get()) == 1 &&
         EVP_DigestVerify(context.get(), Raw(signature.data()),
                          signature.size(), Raw(message.data()),
                          message.size()) == 1;
}

Result<PrivateKey> PrivateKey::Generate() {
  PrivateKey out;
  out.key_.reset(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"));
  if (!out.key_) return Error{ErrorCode::kIo, "no Ed25519 key could be made"};
  return out;
}

Result<PrivateKey> PrivateKey::Load(const std::string& path) {
  const auto pem = ReadPem(path);
  if (!pem) return pem.error();
  PrivateKey out;
  const BioHandle bio = Reading(*pem);
  out.key_.reset(
      PEM_read_bio_PrivateKey(bio.get(), nullptr, &NoPassphrase, nullptr));
  if (!IsEd25519(out.key_)) {
    return Error{ErrorCode::kInvalid,
                 path + ": not a PEM Ed25519 private key without passphrase"};
  }
  return out;
}

Status PrivateKey::Save(const std::string& path) const {
  const BioHandle secret(BIO_new(BIO_s_mem()));
  const BioHandle open(BIO_new(BIO_s_mem()));
  if (!secret || !open ||
      PEM_write_bio_PKCS8PrivateKey(secret.get(), key_.get(), nullptr, nullptr,
                                    0, nullptr, nullptr) != 1 ||
      PEM_write_bio_PUBKEY(open.get(), key_.get()) != 1) {
    return Error{ErrorCode::kIo, "key: cannot be encoded"};
  }
  // The public half first: a private key without one is never left behind.
  const std::string public_path = path + ".pub";
  if (auto status = ReadWholeFile(path, kPemBytesMax);
      status || status.error().code != ErrorCode::kNotFound) {
    return Error{ErrorCode::kInvalid, path + " is there already"};
  }
  if (auto status = WriteFileDurably(public_path, Contents(open.get()), 0644,
                                     IfExists::kFail);
      !status) {
    return status;
  }
  return WriteFileDurably(path, Contents(secret.get()), 0600, IfExists::kFail);
}

Result<PublicKey> PrivateKey::public_key() const {
  const BioHandle bio(BIO_new(BIO_s_mem()));
  if (!bio || PEM_write_bio_PUBKEY(bio.get(), key_.get()) != 1) {
    return Error{ErrorCode::kIo, "key: cannot be encoded"};
  }
  const auto pem = Contents(bio.get());
  return PublicKey::FromPem(
      {reinterpret_cast<const char*>(pem.data()), pem.size()});
}

Result<Signature> PrivateKey::Sign(std::span<const std::byte> message) const {
  Signature out{};
  size_t size = out.size();
  const DigestContext context(EVP_MD_CTX_new());
  if (!context ||
      EVP_DigestSignInit(context.get(), nullptr, nullptr, nullptr,
                         key_.get()) != 1 ||
      EVP_DigestSign(context.get(), Raw(out.data()), &size, Raw(message.data()),
                     message.size()) != 1 ||
      size != out.size()) {
    return Error{ErrorCode::kIo, "signing failed"};
  }
  return out;
}

const PublicKey* TrustedKeys::Find(const KeyId& id) const {
  const auto found =
      std::find_if(keys_.begin(), keys_.end(),
                   [&id](const PublicKey& key) { return key.id() == id; });
  return found == keys_.end() ? nullptr : &*found;
}

}  // namespace bootstream
