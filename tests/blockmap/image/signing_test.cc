#include "blockmap/image/signing.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "blockmap/image/latest.h"

namespace bootstream {
namespace {

class SigningTest : public testing::Test {
 protected:
  SigningTest() {
    std::string name = testing::TempDir() + "signing-XXXXXX";
    folder_ = ::mkdtemp(name.data());
  }
  ~SigningTest() override { std::filesystem::remove_all(folder_); }
  std::string Path(const char* name) const { return folder_ + "/" + name; }
  std::string folder_;
};

std::vector<std::byte> Bytes(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

TEST_F(SigningTest, KnownDigest) {
  EXPECT_EQ(ToHex(Sha256Of(Bytes("abc"))),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  Sha256Stream stream;
  stream.Update(Bytes("a"));
  stream.Update(Bytes("bc"));
  EXPECT_EQ(stream.Finish(), Sha256Of(Bytes("abc")));
}

TEST_F(SigningTest, HexGoesBothWays) {
  Sha256 digest{};
  EXPECT_TRUE(FromHex(ToHex(Sha256Of({})), digest));
  EXPECT_EQ(digest, Sha256Of({}));
  EXPECT_FALSE(FromHex("ab", digest));
  EXPECT_FALSE(FromHex(std::string(63, '0') + "g", digest));
}

// RFC 8032, 7.1, TEST 2, its key in PEM.
TEST_F(SigningTest, KnownSignature) {
  std::ofstream(Path("key")) << "-----BEGIN PRIVATE KEY-----\n"
                                "MC4CAQAwBQYDK2VwBCIEIEzNCJso/"
                                "5banbbDRuwRTg9bijGfNaumJNqM9u1PuKb7\n"
                                "-----END PRIVATE KEY-----\n";
  const auto key = PrivateKey::Load(Path("key"));
  ASSERT_TRUE(key) << key.error().message;
  const auto signature = key->Sign(Bytes("r"));
  ASSERT_TRUE(signature);
  EXPECT_EQ(ToHex(*signature),
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
            "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00");
}

TEST_F(SigningTest, SavedKeysLoadAndVerify) {
  const auto key = PrivateKey::Generate();
  ASSERT_TRUE(key->Save(Path("key")));
  struct stat info {};
  ASSERT_EQ(::stat(Path("key").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600U);
  const auto secret = PrivateKey::Load(Path("key"));
  const auto open = PublicKey::Load(Path("key.pub"));
  ASSERT_TRUE(secret) << secret.error().message;
  ASSERT_TRUE(open) << open.error().message;
  const auto signature = secret->Sign(Bytes("hello"));
  ASSERT_TRUE(signature);
  EXPECT_TRUE(open->Verify(Bytes("hello"), *signature));
  EXPECT_FALSE(open->Verify(Bytes("hellp"), *signature));
}

TEST_F(SigningTest, SaveDoesNotOverwriteEither) {
  const auto key = PrivateKey::Generate();
  ASSERT_TRUE(key->Save(Path("key")));
  EXPECT_FALSE(PrivateKey::Generate()->Save(Path("key")));
  ASSERT_EQ(::unlink(Path("key").c_str()), 0);
  EXPECT_FALSE(PrivateKey::Generate()->Save(Path("key")));
  EXPECT_FALSE(std::filesystem::exists(Path("key")));
  EXPECT_TRUE(PublicKey::Load(Path("key.pub")));
}

TEST_F(SigningTest, OpensslReadsOurKeys) {
  ASSERT_TRUE(PrivateKey::Generate()->Save(Path("key")));
  const std::string in = "openssl pkey -in " + Path("key") + " -pubout -out " +
                         Path("other.pub") + " && cmp " + Path("key.pub") +
                         " " + Path("other.pub");
  EXPECT_EQ(std::system(in.c_str()), 0);
}

TEST_F(SigningTest, OtherFilesAreNoKeys) {
  std::ofstream(Path("text")) << "not a key\n";
  EXPECT_FALSE(PublicKey::Load(Path("text")));
  EXPECT_FALSE(PrivateKey::Load(Path("text")));
  const auto missing = PublicKey::Load(Path("missing"));
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  const std::string rsa = "openssl genrsa -out " + Path("rsa") +
                          " 1024 2>/dev/null && openssl rsa -in " +
                          Path("rsa") + " -pubout -out " + Path("rsa.pub") +
                          " 2>/dev/null";
  ASSERT_EQ(std::system(rsa.c_str()), 0);
  EXPECT_FALSE(PublicKey::Load(Path("rsa.pub")));
  EXPECT_FALSE(PrivateKey::Load(Path("rsa")));
}

class LatestTest : public testing::Test {
 protected:
  LatestTest() : key_(std::move(*PrivateKey::Generate())) {
    keys_.Add(std::move(*key_.public_key()));
    latest_ = {"debian", "13.1", Sha256Of({})};
    file_ = *EncodeLatest(latest_, key_);
  }
  PrivateKey key_;
  TrustedKeys keys_;
  Latest latest_;
  std::vector<std::byte> file_;
};

TEST_F(LatestTest, SaysWhatWasPutIn) {
  const auto latest = OpenLatest(file_, "debian", keys_);
  ASSERT_TRUE(latest) << latest.error().message;
  EXPECT_EQ(latest->version, "13.1");
  EXPECT_EQ(latest->manifest_digest, latest_.manifest_digest);
}

TEST_F(LatestTest, DamageIsRefused) {
  const std::span<const std::byte> file(file_);
  for (size_t size = 0; size < file.size(); ++size) {
    ASSERT_FALSE(OpenLatest(file.first(size), "debian", keys_)) << size;
  }
  for (size_t at = 0; at < file_.size(); ++at) {
    file_[at] ^= std::byte{1};
    ASSERT_FALSE(OpenLatest(file_, "debian", keys_)) << at;
    file_[at] ^= std::byte{1};
  }
  file_.push_back(std::byte{'\n'});
  EXPECT_FALSE(OpenLatest(file_, "debian", keys_));
}

TEST_F(LatestTest, AnotherImagesPointerIsRefused) {
  const auto latest = OpenLatest(file_, "windows", keys_);
  ASSERT_FALSE(latest);
  EXPECT_EQ(latest.error().code, ErrorCode::kCorrupt);
}

TEST_F(LatestTest, UntrustedKeyIsRefused) {
  const auto latest = OpenLatest(file_, "debian", TrustedKeys{});
  ASSERT_FALSE(latest);
  EXPECT_EQ(latest.error().code, ErrorCode::kRefused);
}

}  // namespace
}  // namespace bootstream
