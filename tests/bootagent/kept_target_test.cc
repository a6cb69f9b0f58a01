#include "bootagent/kept_target.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <vector>

#include "blockmap/base/aligned_buffer.h"
#include "bootagent/image_access.h"
#include "tests/support/fake_image.h"
#include "tests/support/memory_device.h"

namespace bootstream {
namespace {

constexpr uint64_t kChunk = kChunkBytesMin;
constexpr uint64_t kImageChunks = 32;
constexpr uint64_t kDiskChunks = 160;
constexpr uint64_t kAllBlocks = (1 << (kChunk / kBlockBytes)) - 1;

// A parked target on a small disk without a partition table, whose pinned
// chunks 16 to 19 have their homes in the region; the boot set is chunk 0.
class KeptTargetTest : public testing::Test {
 protected:
  KeptTargetTest()
      : image_(RandomBytes(kImageChunks * kChunk, 1)),
        device_(std::vector<std::byte>(kDiskChunks * kChunk)) {
    ManifestContent content = DescribeImage(image_, kChunk);
    content.pinned = {{16, 4}};
    std::vector<std::byte> file;
    manifest_ = std::make_shared<const Manifest>(SignAndOpen(content, &file));
    MapStore::CreateOptions options;
    options.superblock.chunk_bytes = kChunk;
    options.superblock.disk.size_bytes = device_.size_bytes();
    options.superblock.phase = Phase::kReleased;
    options.superblock.keep_target = true;
    options.superblock.image_bytes = image_.size();
    options.superblock.manifest_digest = manifest_->digest();
    options.region = {{16, 8}, {64, 60}};
    options.manifest_file = std::move(file);
    options.image = FactsOf(manifest_);
    options.journal_chunks = 2;
    options.spare_chunks = 2;
    auto store = RunInline(MapStore::Create(device_, std::move(options)));
    EXPECT_TRUE(store.has_value()) << store.error().message;
    store_ = std::move(*store);
  }

  // Lay `chunk` down in `place`, with content of its own.
  void Put(uint64_t chunk, uint64_t place, bool dirty) {
    ASSERT_TRUE(store_->AllocateAt(DiskChunk{place})) << place;
    AlignedBuffer content(kChunk);
    std::memset(content.data(), static_cast<int>(chunk), kChunk);
    if (!dirty) {
      std::memcpy(content.data(), image_.data() + chunk * kChunk, kChunk);
    }
    const auto write = [&]() -> Task<Status> {
      co_return co_await device_.Write(place * kChunk, content.span());
    };
    ASSERT_TRUE(RunInline(write()).has_value());
    store_->SetChunk(ImageChunk{chunk}, {Location::At(DiskChunk{place}),
                                         kAllBlocks, dirty ? kAllBlocks : 0});
    ASSERT_TRUE(RunInline(store_->Commit()).has_value());
  }
  Location LocationOf(uint64_t chunk) const {
    return store_->map().Get(ImageChunk{chunk}).location;
  }
  void ExpectContent(uint64_t chunk) {
    const Location location = LocationOf(chunk);
    ASSERT_TRUE(location.on_disk()) << "chunk " << chunk << " is lost";
    const auto bytes =
        device_.bytes().subspan(location.chunk().value * kChunk, kChunk);
    for (const std::byte b : bytes) {
      ASSERT_EQ(b, static_cast<std::byte>(chunk)) << "chunk " << chunk;
    }
  }
  Status Prepare() {
    StopPoints stops;
    Progress progress(stderr, Progress::Style::kSilent);
    const Job job{"", device_, {}, stops, progress, 4};
    return RunInline(PrepareHomes(job, *store_, *manifest_));
  }

  std::vector<std::byte> image_;
  MemoryDevice device_;
  std::shared_ptr<const Manifest> manifest_;
  std::unique_ptr<MapStore> store_;
};

TEST_F(KeptTargetTest, ChunksInOthersHomesMakeRoom) {
  Put(20, 16, true);   // written by the target, in the home of 16
  Put(21, 17, false);  // only read
  Put(18, 19, true);   // two that lie in each other's home
  Put(19, 18, true);
  Put(16, 70, true);
  Put(17, 71, true);
  const auto status = Prepare();
  ASSERT_TRUE(status.has_value()) << status.error().message;
  for (const uint64_t chunk : {16, 17, 18, 19}) {
    EXPECT_EQ(LocationOf(chunk), Location::At(DiskChunk{chunk}));
    ExpectContent(chunk);
  }
  ExpectContent(20);
  EXPECT_TRUE(LocationOf(21).is_absent()) << "it can be fetched again";
}

TEST_F(KeptTargetTest, OnlyCleanChunksAreGivenUpForRoom) {
  const auto room = [&] {
    return store_->region().plain_available_count(true);
  };
  Put(24, 90, true);
  for (uint64_t chunk = 1; chunk <= 8; ++chunk) Put(chunk, 100 + chunk, false);
  const uint64_t wanted = room() + 3;
  ASSERT_TRUE(
      RunInline(MakeRoom(*store_, *manifest_, wanted, wanted)).has_value());
  EXPECT_EQ(room(), wanted);
  // What cannot be had is not an error unless it is needed.
  ASSERT_TRUE(RunInline(MakeRoom(*store_, *manifest_, wanted + 99, wanted))
                  .has_value());
  ExpectContent(24);
  const auto status =
      RunInline(MakeRoom(*store_, *manifest_, wanted + 99, wanted + 99));
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code, ErrorCode::kNoSpace);
  EXPECT_NE(status.error().message.find("chunks are missing"),
            std::string::npos)
      << status.error().message;
  ExpectContent(24);
}

}  // namespace
}  // namespace bootstream
