#include "blockmap/image/repository_client.h"

#include <gtest/gtest.h>

#include "blockmap/image/latest.h"
#include "tests/support/fake_image.h"
#include "tests/support/test_http_server.h"

namespace bootstream {
namespace {

class RepositoryClientTest : public testing::Test {
 protected:
  RepositoryClientTest() : key_(std::move(*PrivateKey::Generate())) {
    keys_.Add(std::move(*key_.public_key()));
    options_.servers = {server_.url()};
    Publish("1.2", true);
  }

  void Publish(const std::string& version, bool latest, uint64_t seed = 3) {
    ManifestContent content = DescribeImage(RandomBytes(1 << 20, seed));
    content.version = version;
    const PrivateKey* signer = &key_;
    file_ = *Manifest::Encode(content, {&signer, 1});
    digest_ = Manifest::Open(file_, keys_)->digest();
    server_.Put("images/test/" + version + "/manifest", file_);
    if (!latest) return;
    server_.Put("images/test/latest",
                *EncodeLatest({"test", version, digest_}, key_));
  }
  Result<FetchedManifest> Fetch(std::string_view reference) {
    const auto image = ParseImageReference(reference);
    if (!image) return image.error();
    return RepositoryClient(options_).Fetch(*image, keys_);
  }
  ErrorCode CodeOf(std::string_view reference) {
    const auto fetched = Fetch(reference);
    EXPECT_FALSE(fetched);
    return fetched ? ErrorCode::kIo : fetched.error().code;
  }

  PrivateKey key_;
  TrustedKeys keys_;
  TestHttpServer server_;
  RepositoryClient::Options options_;
  std::vector<std::byte> file_;
  Sha256 digest_{};
};

TEST_F(RepositoryClientTest, LatestIsFollowed) {
  Publish("1.3", true);
  const auto fetched = Fetch("test");
  ASSERT_TRUE(fetched) << fetched.error().message;
  EXPECT_EQ(fetched->manifest.content().version, "1.3");
  EXPECT_EQ(fetched->file, file_);
  EXPECT_EQ(fetched->server, server_.url());
}

TEST_F(RepositoryClientTest, VersionIsTakenWithoutLatest) {
  Publish("1.3", false);
  EXPECT_EQ(Fetch("test:1.3")->manifest.content().version, "1.3");
  EXPECT_EQ(Fetch("test")->manifest.content().version, "1.2");
}

TEST_F(RepositoryClientTest, MissingImagesAreNotFound) {
  EXPECT_EQ(CodeOf("other"), ErrorCode::kNotFound);
  EXPECT_EQ(CodeOf("test:9"), ErrorCode::kNotFound);
  EXPECT_EQ(CodeOf("../x"), ErrorCode::kInvalid);
  EXPECT_EQ(CodeOf("test:x"), ErrorCode::kInvalid);
}

TEST_F(RepositoryClientTest, UnreachableServerIsUnavailable) {
  server_.Stop();
  EXPECT_EQ(CodeOf("test"), ErrorCode::kUnavailable);
}

TEST_F(RepositoryClientTest, WrongKeyIsRefused) {
  keys_ = {};
  keys_.Add(std::move(*PrivateKey::Generate()->public_key()));
  EXPECT_EQ(CodeOf("test"), ErrorCode::kRefused);
  EXPECT_EQ(CodeOf("test:1.2"), ErrorCode::kRefused);
}

TEST_F(RepositoryClientTest, AlteredManifestIsCorrupt) {
  file_[200] ^= std::byte{1};
  server_.Put("images/test/1.2/manifest", file_);
  EXPECT_EQ(CodeOf("test"), ErrorCode::kCorrupt);
  file_.resize(100);
  server_.Put("images/test/1.2/manifest", file_);
  EXPECT_EQ(CodeOf("test"), ErrorCode::kCorrupt);
}

TEST_F(RepositoryClientTest, AnotherVersionInItsPlaceIsCorrupt) {
  const auto old = file_;
  Publish("1.3", true);
  server_.Put("images/test/1.3/manifest", old);
  EXPECT_EQ(CodeOf("test:1.3"), ErrorCode::kCorrupt);
  EXPECT_EQ(CodeOf("test"), ErrorCode::kCorrupt);
}

TEST_F(RepositoryClientTest, ManifestThatLatestDoesNotNameIsCorrupt) {
  Publish("1.2", /*latest=*/false, /*seed=*/4);
  EXPECT_TRUE(Fetch("test:1.2"));
  EXPECT_EQ(CodeOf("test"), ErrorCode::kCorrupt);
}

TEST_F(RepositoryClientTest, RollbackIsRefused) {
  options_.min_version = *ParseImageVersion("1.3");
  EXPECT_EQ(CodeOf("test"), ErrorCode::kRefused);
  Publish("1.3", true);
  EXPECT_TRUE(Fetch("test"));
}

TEST_F(RepositoryClientTest, TooLongAnAnswerIsRefused) {
  server_.Put("images/test/latest", RandomBytes(1 << 20, 1));
  EXPECT_EQ(CodeOf("test"), ErrorCode::kCorrupt);
}

TEST_F(RepositoryClientTest, PinnedManifestNeedsNoKey) {
  const RepositoryClient client(options_);
  EXPECT_TRUE(client.FetchPinned("test", "1.2", digest_));
  const auto other = client.FetchPinned("test", "1.2", Sha256{});
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().code, ErrorCode::kCorrupt);
}

TEST_F(RepositoryClientTest, SecondServerHelps) {
  TestHttpServer empty;
  options_.servers = {empty.url(), server_.url()};
  EXPECT_TRUE(Fetch("test"));
  options_.servers = {"http://127.0.0.1:1/", server_.url()};
  EXPECT_TRUE(Fetch("test"));
}

TEST_F(RepositoryClientTest, AnotherServerHelpsAgainstEveryFault) {
  using Fault = TestHttpServer::Fault;
  options_.stall_timeout = std::chrono::seconds(1);
  TestHttpServer bad;
  for (const char* path : {"images/test/latest", "images/test/1.2/manifest"}) {
    bad.Put(path, server_.Get(path));
  }
  for (int i = 1; i < TestHttpServer::kFaultCount; ++i) {
    const auto fault = static_cast<Fault>(i);
    if (fault == Fault::kWholeFile) continue;  // what is asked for
    SCOPED_TRACE("fault " + std::to_string(i));
    bad.SetFault(fault);
    const size_t before = server_.requests().size();
    options_.servers = {bad.url(), server_.url()};
    EXPECT_TRUE(Fetch("test"));
    const bool refused = server_.requests().size() > before;
    EXPECT_TRUE(refused || fault == Fault::kNoRange) << "was taken";
  }
}

TEST_F(RepositoryClientTest, FaultIsOneSentenceThatNamesTheFile) {
  using Fault = TestHttpServer::Fault;
  for (const Fault fault :
       {Fault::kWrongRange, Fault::kShortBody, Fault::kFlippedBit,
        Fault::kError, Fault::kTooMany, Fault::kEncoded, Fault::kHangUp,
        Fault::kEndlessHeaders, Fault::kRedirect}) {
    SCOPED_TRACE(static_cast<int>(fault));
    server_.SetFault(fault);
    const auto fetched = Fetch("test");
    ASSERT_FALSE(fetched);
    const std::string& message = fetched.error().message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    EXPECT_EQ(message.find(server_.url()), 0U) << message;
  }
}

TEST_F(RepositoryClientTest, ReplayedOlderImageIsRefusedByItsVersion) {
  // Everything is signed as it once was.
  TestHttpServer replay;
  for (const char* path : {"images/test/latest", "images/test/1.2/manifest"}) {
    replay.Put(path, server_.Get(path));
  }
  Publish("1.3", true);
  options_.min_version = *ParseImageVersion("1.3");
  options_.servers = {replay.url()};
  EXPECT_EQ(CodeOf("test"), ErrorCode::kRefused);
  EXPECT_EQ(CodeOf("test:1.2"), ErrorCode::kRefused);
  options_.servers = {replay.url(), server_.url()};
  EXPECT_EQ(Fetch("test")->manifest.content().version, "1.3");
}

TEST_F(RepositoryClientTest, FileThatIsTooLongIsNotLoaded) {
  options_.manifest_bytes_max = file_.size() - 1;
  EXPECT_EQ(CodeOf("test"), ErrorCode::kCorrupt);
}

}  // namespace
}  // namespace bootstream
