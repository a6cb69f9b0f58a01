#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <random>
#include <thread>

#include "tests/blockmap/image/http_source_fixture.h"
#include "tests/blockmap/image/status_server.h"

// A server that does everything wrong that a server can: nothing wrong is ever
// delivered, everybody gets an answer when it mends, a second server helps, and
// the counters say what it was.

namespace bootstream {
namespace {

struct FaultCase {
  const char* name;
  Fault fault;
  FetchTrouble trouble;  // what it is counted as
};

class FaultTest : public HttpChunkSourceTest,
                  public testing::WithParamInterface<FaultCase> {
 protected:
  // A slow machine's replies (a sanitizer's) are not to be taken for stalled.
  FaultTest() {
    if (GetParam().trouble == FetchTrouble::kStall) return;
    options_.stall_timeout = milliseconds(30000);
  }
  uint64_t Count(FetchTrouble trouble) const {
    return source_->statistics().troubles[static_cast<size_t>(trouble)];
  }
};

TEST_P(FaultTest, IsOutlivedAndNothingWrongIsDelivered) {
  server_.SetFault(First(2, GetParam().fault));
  Open();
  EXPECT_EQ(FetchAll(), kChunks + 1);
  const FetchStatistics statistics = source_->statistics();
  EXPECT_GT(Count(GetParam().trouble), 0U);
  EXPECT_EQ(std::accumulate(statistics.troubles.begin(),
                            statistics.troubles.end(), uint64_t{0}),
            statistics.retries);
  EXPECT_FALSE(statistics.waiting);
  EXPECT_NE(statistics.last_failure.find(server_.url()), std::string::npos);
  const bool digest = GetParam().trouble == FetchTrouble::kDigest;
  EXPECT_EQ(statistics.digest_mismatches > 0, digest);
  EXPECT_EQ(statistics.bytes_refused > 0, digest);
}

TEST_P(FaultTest, AnotherServerHelps) {
  options_.servers.push_back(other_.url());
  server_.SetFault(GetParam().fault);
  Open();
  EXPECT_EQ(FetchAll(), kChunks + 1);
  EXPECT_FALSE(other_.requests().empty());
}

TEST_P(FaultTest, WaitersAreAnsweredWhenItMends) {
  server_.SetFault(GetParam().fault);
  options_.back_off_max = milliseconds(50);
  Open();
  size_t right = 0;
  std::vector<Task<Status>> tasks;
  for (uint64_t chunk = 0; chunk <= kChunks; ++chunk) {
    tasks.push_back(FetchOne(chunk, FetchClass::kDemand, right));
  }
  const auto mend = [&]() -> Task<Status> {
    while (source_->statistics().retries < 3) {
      co_await loop_->Sleep(milliseconds(2));
    }
    // Half a body may have been good for some.
    EXPECT_LT(right, kChunks + 1);
    server_.SetFault(Fault::kNone);
    co_return OkStatus();
  };
  tasks.push_back(mend());
  EXPECT_TRUE(loop_->RunUntilDone(JoinAll(std::move(tasks))));
  EXPECT_EQ(right, kChunks + 1);
}

INSTANTIATE_TEST_SUITE_P(
    Http, FaultTest,
    testing::Values(
        FaultCase{"WrongRange", Fault::kWrongRange, FetchTrouble::kWrongReply},
        FaultCase{"ShiftedBytes", Fault::kShiftedBytes, FetchTrouble::kDigest},
        FaultCase{"NoRange", Fault::kNoRange, FetchTrouble::kWrongReply},
        FaultCase{"WrongLength", Fault::kWrongLength,
                  FetchTrouble::kWrongReply},
        FaultCase{"WrongWhole", Fault::kWrongWhole, FetchTrouble::kWrongReply},
        FaultCase{"ShortBody", Fault::kShortBody, FetchTrouble::kShortReply},
        FaultCase{"FlippedBit", Fault::kFlippedBit, FetchTrouble::kDigest},
        FaultCase{"OtherPack", Fault::kOtherFile, FetchTrouble::kDigest},
        FaultCase{"Stall", Fault::kStall, FetchTrouble::kStall},
        FaultCase{"Trickle", Fault::kTrickle, FetchTrouble::kStall},
        FaultCase{"Silence", Fault::kSilent, FetchTrouble::kStall},
        FaultCase{"NotFound", Fault::kNotFound, FetchTrouble::kStatus},
        FaultCase{"TooMany", Fault::kTooMany, FetchTrouble::kStatus},
        FaultCase{"Error", Fault::kError, FetchTrouble::kStatus},
        FaultCase{"Unavailable", Fault::kUnavailable, FetchTrouble::kStatus},
        FaultCase{"Encoded", Fault::kEncoded, FetchTrouble::kWrongReply},
        FaultCase{"HangUp", Fault::kHangUp, FetchTrouble::kConnection},
        FaultCase{"Reset", Fault::kReset, FetchTrouble::kConnection},
        FaultCase{"EndlessHeaders", Fault::kEndlessHeaders,
                  FetchTrouble::kWrongReply}),
    [](const auto& info) { return info.param.name; });

using BadServerTest = HttpChunkSourceTest;

// A fault for some of the requests, drawn from `seed` by the request's number.
std::function<Fault(const Request&)> Draw(uint64_t seed) {
  return [seed](const Request& request) {
    std::mt19937_64 random(seed * 1000003 + request.number);
    if (random() % 2 == 0) return Fault::kNone;
    const auto fault =
        static_cast<Fault>(random() % TestHttpServer::kFaultCount);
    // A pause of a second is tried above.
    return fault == Fault::kTooMany ? Fault::kError : fault;
  };
}

TEST_F(BadServerTest, EveryMixtureOfFaultsIsOutlived) {
  options_.servers.push_back(other_.url());
  // Not so many at once that a slow machine (a sanitizer's) takes each for
  // stalled.
  options_.requests_max = 8;
  options_.stall_timeout = milliseconds(300);
  options_.back_off_max = milliseconds(30);
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    server_.SetFault(Draw(seed));
    other_.SetFault(Draw(seed + 1000));
    options_.limits.batch_bytes = (seed % 3 + 1) * kChunk;
    Open();
    EXPECT_EQ(FetchAll(static_cast<FetchClass>(seed % 4)), kChunks + 1);
    EXPECT_GT(source_->statistics().retries, 0U);
    source_.reset();
  }
}

TEST_F(BadServerTest, RightBytesUnderAnotherStatusAreRefused) {
  for (const char* status : {"203 Changed", "404 Not Found", "500 Error"}) {
    for (const bool says_length : {true, false}) {
      SCOPED_TRACE(std::string(status) + (says_length ? ", length" : ""));
      const StatusServer server(status, says_length, pack_);
      options_.servers = {server.url(), other_.url()};
      const size_t before = other_.requests().size();
      Open();
      EXPECT_TRUE(IsRight(3, Fetch(3)));
      EXPECT_EQ(source_->statistics().retries, 1U);
      EXPECT_EQ(other_.requests().size(), before + 1);
      source_.reset();
    }
  }
}

TEST_F(BadServerTest, WholePackOfItsSizeIsTakenAndSliced) {
  server_.SetFault(Fault::kWholeFile);
  Open();
  EXPECT_TRUE(IsRight(9, Fetch(9)));
  EXPECT_TRUE(IsRight(kChunks, Fetch(kChunks)));
  EXPECT_EQ(source_->statistics().retries, 0U);
  // A chunk is handed on before its request has ended.
  while (source_->statistics().whole_files < 2) std::this_thread::yield();
}

TEST_F(BadServerTest, ServerThatKnowsRangesIsPreferred) {
  options_.servers.push_back(other_.url());
  server_.SetFault(Fault::kWholeFile);
  Open();
  EXPECT_TRUE(IsRight(0, Fetch(0)));
  while (source_->statistics().whole_files < 1) std::this_thread::yield();
  for (uint64_t chunk = 1; chunk < 4; ++chunk) {
    EXPECT_TRUE(IsRight(chunk, Fetch(chunk)));
  }
  EXPECT_EQ(source_->statistics().whole_files, 1U);
  EXPECT_EQ(other_.requests().size(), 3U);
}

TEST_F(BadServerTest, ServersThatTheManifestNamesAreAskedFirst) {
  std::vector<std::byte> pack;
  ManifestContent content = DescribeImage(image_, kChunk, &pack);
  ASSERT_EQ(pack, pack_);
  content.base_urls = {server_.url()};
  manifest_ = std::make_shared<Manifest>(SignAndOpen(content));
  options_.servers = {other_.url()};
  Open();
  EXPECT_TRUE(IsRight(3, Fetch(3)));
  EXPECT_EQ(server_.requests().size(), 1U);
  EXPECT_TRUE(other_.requests().empty());
  server_.SetFault(Fault::kNotFound);
  EXPECT_TRUE(IsRight(4, Fetch(4)));
  EXPECT_EQ(other_.requests().size(), 1U);
  // bootstream.url= on the command line.
  source_ =
      std::move(*HttpChunkSource::Create(*loop_, manifest_, options_, true));
  const size_t before = server_.requests().size();
  EXPECT_TRUE(IsRight(5, Fetch(5)));
  EXPECT_TRUE(IsRight(6, Fetch(6)));
  EXPECT_EQ(server_.requests().size(), before);
}

TEST_F(BadServerTest, BusyServerIsLeftAloneAsLongAsItAsks) {
  options_.servers.push_back(other_.url());
  server_.SetFault(Fault::kTooMany);
  options_.back_off_max = milliseconds(1);
  Open();
  for (uint64_t chunk = 0; chunk < 5; ++chunk) {
    EXPECT_TRUE(IsRight(chunk, Fetch(chunk)));
  }
  EXPECT_EQ(server_.requests().size(), 1U);
}

// The capabilities of each thread of this process, as the kernel says.
std::vector<uint64_t> Capabilities() {
  std::vector<uint64_t> all;
  for (const auto& task :
       std::filesystem::directory_iterator("/proc/self/task")) {
    std::ifstream status(task.path() / "status");
    std::string word;
    while (status >> word) {
      if (word != "CapEff:") continue;
      status >> word;
      all.push_back(std::stoull(word, nullptr, 16));
    }
  }
  return all;
}

TEST_F(BadServerTest, ThreadsThatSeeNetworkBytesHaveNoRights) {
  constexpr uint64_t kMemoryLock = uint64_t{1} << 14;  // CAP_IPC_LOCK
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  options_.worker_count = 3;
  Open();
  EXPECT_TRUE(IsRight(3, Fetch(3)));
  // Each of the four drops them before its first work; the last may not have
  // begun yet.
  const auto dropped = [&] {
    const auto all = Capabilities();
    return std::count_if(all.begin(), all.end(), [](uint64_t rights) {
      return (rights & ~kMemoryLock) == 0;
    });
  };
  while (dropped() < 4) std::this_thread::yield();
  EXPECT_NE(Capabilities().front() & ~kMemoryLock, 0U) << "ours are kept";
}

TEST_F(BadServerTest, RedirectIsFollowedWithItsRange) {
  server_.SetFault(Fault::kRedirect);
  server_.SetRedirect(other_.url());
  Open();
  EXPECT_TRUE(IsRight(3, Fetch(3)));
  ASSERT_EQ(other_.requests().size(), 1U);
  EXPECT_EQ(other_.requests()[0].begin, server_.requests()[0].begin);
  EXPECT_EQ(other_.requests()[0].end, server_.requests()[0].end);
}

TEST_F(BadServerTest, RedirectsThatLeadNowhereEnd) {
  options_.servers.push_back(other_.url());
  server_.SetFault(Fault::kRedirect);
  for (const char* base : {"", "file:///", "ftp://127.0.0.1/"}) {
    SCOPED_TRACE(base);
    server_.SetRedirect(base);
    Open();
    EXPECT_TRUE(IsRight(3, Fetch(3)));
    EXPECT_EQ(source_->statistics()
                  .troubles[static_cast<size_t>(FetchTrouble::kWrongReply)],
              1U);
    source_.reset();
  }
}

}  // namespace
}  // namespace bootstream
