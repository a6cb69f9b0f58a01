#include "bootagent/region_file.h"

#include <gtest/gtest.h>

#include "tests/support/fake_image.h"

namespace bootstream {
namespace {

constexpr uint64_t kChunk = kChunkBytesDefault;

// An image of 100 chunks: 10 to 19 are to boot from, 20 to 29 are pinned.
Manifest SmallImage() {
  ManifestContent content = DescribeImage(RandomBytes(30 * kChunk, 7));
  content.image_bytes = 100 * kChunk;
  content.boot_set = {{0, 1}, {10, 10}};
  content.pinned = {{20, 10}};
  return SignAndOpen(content);
}

Plan PlanOf(const Manifest& manifest, uint64_t chunks_max) {
  Plan plan;
  plan.image = manifest.grid();
  plan.disk_grid = Grid{kChunk, 1000 * kChunk};
  plan.region_file_bytes_max = chunks_max * kChunk + 4096;
  return plan;
}

std::vector<DiskChunk> Chunks(std::initializer_list<uint64_t> numbers) {
  std::vector<DiskChunk> chunks;
  for (const uint64_t number : numbers) chunks.push_back(DiskChunk{number});
  return chunks;
}

TEST(RegionFileTest, BootHomesAreKeptFirstAndOtherKeptHomesLast) {
  const Manifest manifest = SmallImage();
  const auto chunks = Chunks({25, 500, 99, 12, 21, 700, 15});
  EXPECT_EQ(BestChunks(PlanOf(manifest, 2), manifest, chunks),
            Chunks({12, 15}));
  EXPECT_EQ(BestChunks(PlanOf(manifest, 4), manifest, chunks),
            Chunks({12, 15, 500, 99}));
  EXPECT_EQ(BestChunks(PlanOf(manifest, 6), manifest, chunks),
            Chunks({12, 15, 500, 99, 700, 25}));
  EXPECT_EQ(BestChunks(PlanOf(manifest, 60), manifest, chunks).size(), 7u);
}

}  // namespace
}  // namespace bootstream
