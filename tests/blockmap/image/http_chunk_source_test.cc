#include "blockmap/image/http_chunk_source.h"

#include <gtest/gtest.h>

#include <thread>

#include "tests/blockmap/image/http_source_fixture.h"

namespace bootstream {
namespace {

TEST_F(HttpChunkSourceTest, OneChunkIsOneRequestForItsFrame) {
  Open();
  EXPECT_TRUE(IsRight(3, Fetch(3)));
  EXPECT_TRUE(IsRight(kChunks, Fetch(kChunks)));
  const auto requests = server_.requests();
  ASSERT_EQ(requests.size(), 2U);
  const ChunkEntry* entry = manifest_->Find(ImageChunk{3});
  EXPECT_EQ(requests[0].path, path_);
  EXPECT_EQ(requests[0].begin, entry->pack_offset);
  EXPECT_EQ(requests[0].end, entry->pack_offset + entry->packed_bytes);
  const FetchStatistics statistics = source_->statistics();
  EXPECT_EQ(statistics.requests, 2U);
  EXPECT_EQ(statistics.chunks_delivered, 2U);
  EXPECT_EQ(statistics.retries, 0U);
  EXPECT_FALSE(statistics.waiting);
}

TEST_F(HttpChunkSourceTest, ZeroesNeedNoServer) {
  server_.Stop();
  Open();
  EXPECT_TRUE(IsRight(5, Fetch(5)));
  EXPECT_FALSE(Fetch(kChunks + 1));
  EXPECT_EQ(source_->statistics().requests, 0U);
}

TEST_F(HttpChunkSourceTest, NeighboursShareRequests) {
  options_.request_bytes_min = 4 * kChunk;
  Open();
  EXPECT_EQ(FetchAll(FetchClass::kPrefetch), kChunks + 1);
  EXPECT_LT(server_.requests().size(), kChunks / 2);
  // Counted when a reply has ended, which may be after its last chunk is there.
  while (source_->statistics().bytes_received <
         manifest_->content().packs[0].size_bytes) {
    std::this_thread::yield();
  }
}

TEST_F(HttpChunkSourceTest, BytesBeyondTheRangeAreNotLookedAt) {
  server_.SetFault(Fault::kLongBody);
  Open();
  EXPECT_TRUE(IsRight(9, Fetch(9)));
}

// Libcurl forgot to forget the header of the reply before: seen by the address
// sanitizer.
TEST_F(HttpChunkSourceTest, ReplyThatBeginsWithAFoldedLineIsNoHarm) {
  options_.servers.push_back(other_.url());
  Open();
  EXPECT_TRUE(IsRight(9, Fetch(9)));
  server_.SetFault(Fault::kFolded);
  EXPECT_EQ(FetchAll(), kChunks + 1);
}

TEST_F(HttpChunkSourceTest, WrongBytesAreAskedForPastCaches) {
  server_.SetFault(First(1, Fault::kFlippedBit));
  Open();
  EXPECT_TRUE(IsRight(2, Fetch(2)));
  EXPECT_EQ(source_->statistics().digest_mismatches, 1U);
  const auto requests = server_.requests();
  ASSERT_EQ(requests.size(), 2U);
  EXPECT_FALSE(requests[0].no_cache);
  EXPECT_TRUE(requests[1].no_cache);
}

TEST_F(HttpChunkSourceTest, OneBadChunkDoesNotHoldUpItsNeighbours) {
  const ChunkEntry* bad = manifest_->Find(ImageChunk{4});
  pack_[bad->pack_offset + bad->packed_bytes / 2] ^= std::byte{1};
  server_.Put(path_, pack_);
  options_.give_up_after = milliseconds(600);
  Open();
  size_t right = 0;
  std::vector<Task<Status>> tasks;
  for (uint64_t chunk = 4; chunk <= kChunks; ++chunk) {
    tasks.push_back(FetchOne(chunk, FetchClass::kDemand, right));
  }
  const Status status = loop_->RunUntilDone(JoinAll(std::move(tasks)));
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(right, kChunks - 4);
}

TEST_F(HttpChunkSourceTest, ServerThatComesBackIsFoundAgain) {
  Open();
  EXPECT_TRUE(IsRight(1, Fetch(1)));
  server_.Stop();
  std::optional<Result<AlignedBuffer>> got;
  const auto fetch = [&]() -> Task<void> {
    got.emplace(co_await source_->Fetch(ImageChunk{2}, FetchClass::kDemand));
    loop_->Stop();
  };
  Spawn(fetch());
  const auto wait_for_failure = [&]() -> Task<void> {
    while (!source_->statistics().waiting) {
      co_await loop_->Sleep(milliseconds(5));
    }
    server_.Start();
  };
  Spawn(wait_for_failure());
  loop_->Run();
  ASSERT_TRUE(got);
  EXPECT_TRUE(IsRight(2, *got));
  EXPECT_FALSE(source_->statistics().waiting);
}

TEST_F(HttpChunkSourceTest, GivesUpOnlyWhenToldTo) {
  server_.Stop();
  options_.give_up_after = milliseconds(300);
  Open();
  const auto got = Fetch(1);
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code, ErrorCode::kUnavailable);
  EXPECT_NE(got.error().message.find(server_.url()), std::string::npos);
}

TEST_F(HttpChunkSourceTest, WaitersAreToldWhenTheSourceGoes) {
  server_.SetFault(Fault::kSilent);
  options_.stall_timeout = milliseconds(60000);
  Open();
  size_t told = 0;
  const auto fetch = [&](uint64_t chunk, FetchClass c) -> Task<void> {
    const auto got = co_await source_->Fetch(ImageChunk{chunk}, c);
    told += !got && got.error().code == ErrorCode::kUnavailable;
  };
  for (uint64_t chunk = 0; chunk < 5; ++chunk) {
    Spawn(fetch(chunk, FetchClass::kDemand));
  }
  Spawn(fetch(20, FetchClass::kBackfill));
  server_.WaitForRequests(1);
  source_.reset();
  EXPECT_EQ(told, 6U);
}

// Chunks from the twelfth on are wanted by backfill, and do not come.
class HangingBackfillTest : public HttpChunkSourceTest {
 protected:
  static constexpr uint64_t kFirst = 12;

  void HangBy(Fault fault) {
    const uint64_t begin = manifest_->Find(ImageChunk{kFirst})->pack_offset;
    server_.SetFault([=](const Request& request) {
      return request.begin >= begin ? fault : Fault::kNone;
    });
    options_.stall_timeout = milliseconds(60000);
  }
  Task<void> Backfill(uint64_t chunk) {
    (void)co_await source_->Fetch(ImageChunk{chunk}, FetchClass::kBackfill);
  }
  void ExpectDemandBesideIt() {
    for (uint64_t c = kFirst; c < kChunks; ++c) Spawn(Backfill(c));
    server_.WaitForRequests(2);
    for (uint64_t chunk = 0; chunk < 4; ++chunk) {
      EXPECT_TRUE(IsRight(chunk, Fetch(chunk)));
    }
  }
};

TEST_F(HangingBackfillTest, DemandIsServed) {
  HangBy(Fault::kStall);
  options_.limits.batch_bytes = kChunk;
  options_.requests_max = options_.requests_for_demand + 2;
  Open();
  ExpectDemandBesideIt();
  source_.reset();
}

// Two frames fill the window; demand does not ask for room in it.
TEST_F(HangingBackfillTest, KeepsToTheWindowAndDemandDoesNot) {
  HangBy(Fault::kSilent);
  options_.window = {.bytes_start = 2 * kChunk,
                     .bytes_min = 2 * kChunk,
                     .bytes_max = 2 * kChunk};
  Open();
  ExpectDemandBesideIt();
  EXPECT_EQ(server_.requests().size(), 2U + 4U);
  source_.reset();
}

TEST_F(HttpChunkSourceTest, NoServerIsInvalid) {
  options_.servers.clear();
  const auto source = HttpChunkSource::Create(*loop_, manifest_, options_);
  ASSERT_FALSE(source);
  EXPECT_EQ(source.error().code, ErrorCode::kInvalid);
}

}  // namespace
}  // namespace bootstream
