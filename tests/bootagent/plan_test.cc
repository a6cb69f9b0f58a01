#include "bootagent/plan.h"

#include <gtest/gtest.h>

#include "blockmap/map/map_store.h"
#include "bootagent/plan_steps.h"
#include "tests/support/fake_image.h"

namespace bootstream {
namespace {

constexpr uint64_t kSector = kSectorBytes;
constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kGiB = uint64_t{1} << 30;
constexpr uint64_t kChunk = kChunkBytesDefault;
constexpr uint64_t kDisk = 20 * kGiB;

ExtSpace FreeAt(ByteExtent extent) {
  ExtSpace space;
  space.free = {extent};
  return space;
}

// A disk with an ESP and an ext4 root of which `free` bytes are free.
Facts Disk(uint64_t free) {
  Facts facts;
  facts.manifest_bytes = 100000;
  ProbedDisk& disk = facts.disk;
  disk.path = "/dev/test";
  disk.identity.size_bytes = kDisk;
  disk.identity.table_type = TableType::kGpt;
  disk.table.type = TableType::kGpt;
  const uint64_t last = kDisk - kSector;
  disk.table.table_extents = {{last - 32 * kSector, 32 * kSector},
                              {last, kSector},
                              {2 * kSector, 32 * kSector},
                              {kSector, kSector},
                              {0, kSector}};
  ProbedPartition esp;
  esp.partition.number = 1;
  esp.partition.extent = {kMiB, 256 * kMiB};
  esp.content = {"vfat", "filesystem", "", "", false};
  ProbedPartition root;
  root.partition.number = 2;
  root.partition.extent = {257 * kMiB, 19 * kGiB};
  root.content = {"ext4", "filesystem", "", "", false};
  root.ext = ExtFacts{4096, 19 * kGiB / 4096, {}, true, true};
  disk.partitions = {esp, root};
  facts.spaces = {{root.partition.extent.offset,
                   FreeAt({root.partition.extent.end() - free, free})}};
  return facts;
}

ManifestContent Image(uint64_t size, uint64_t boot_chunks) {
  // A little data at the front; the rest is zero.
  std::vector<std::byte> front = RandomBytes(boot_chunks * kChunk, 7);
  ManifestContent content = DescribeImage(front);
  content.image_bytes = size;
  content.boot_set = {{0, boot_chunks}};
  return content;
}

Result<Plan> PlanFor(const Facts& facts, const ManifestContent& content,
                     PlanOptions options = {}) {
  return MakePlan(facts, SignAndOpen(content), options);
}

TEST(PlanTest, RoomyDiskGivesAGuaranteedPlan) {
  const auto plan = PlanFor(Disk(12 * kGiB), Image(4 * kGiB, 20));
  ASSERT_TRUE(plan.has_value()) << plan.error().message;
  EXPECT_TRUE(plan->guaranteed);
  EXPECT_EQ(plan->source_partition, 2u);
  EXPECT_GE(plan->account.region, 4 * kGiB / kChunk);
  EXPECT_GE(plan->account.room_for_image, 4 * kGiB / kChunk);
  EXPECT_GE(plan->region_file_bytes, plan->account.region * kChunk);
  EXPECT_LE(plan->region_file_bytes, 5 * kGiB);
}

TEST(PlanTest, EveryByteOfTheRegionIsAccountedFor) {
  const auto plan = PlanFor(Disk(12 * kGiB), Image(4 * kGiB, 20));
  ASSERT_TRUE(plan.has_value());
  const Account& a = plan->account;
  EXPECT_EQ(a.image, 4 * kGiB / kChunk);
  EXPECT_EQ(a.image_data, 20u);
  EXPECT_EQ(a.boot_set, 20u);
  // Chunk 0 (boot home and LBA 0, 1), and the last one with anchor and backup.
  EXPECT_EQ(plan->special.size(), 3u);
  EXPECT_EQ(a.relocations, a.boot_set + plan->special.size());
  EXPECT_GE(a.metadata, 2 + 2 * 8 + 2u);
  EXPECT_EQ(a.region, a.room_for_image + a.metadata + a.spare);
}

TEST(PlanTest, SpecialChunksAreTablesAndAnchor) {
  const auto plan = PlanFor(Disk(12 * kGiB), Image(4 * kGiB, 20));
  ASSERT_TRUE(plan.has_value());
  const uint64_t last = kDisk / kChunk - 1;
  EXPECT_EQ(plan->anchor_offset, kDisk - kMiB / 4);
  EXPECT_EQ(plan->special, (std::vector<DiskChunk>{{0}, {last - 1}, {last}}));
}

TEST(PlanTest, RegionThatDoesNotFitSaysByHowMuch) {
  const auto plan = PlanFor(Disk(1 * kGiB), Image(4 * kGiB, 20));
  ASSERT_FALSE(plan.has_value());
  EXPECT_EQ(plan.error().code, ErrorCode::kRefused);
  EXPECT_NE(plan.error().message.find("missing"), std::string::npos);
  EXPECT_EQ(plan.error().message.find("--when-full"), std::string::npos);
}

TEST(PlanTest, SmallerRegionNeedsAPolicyThatSomebodyNames) {
  const Facts facts = Disk(4 * kGiB);
  const auto refused = PlanFor(facts, Image(4 * kGiB, 20));
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(refused.error().message.find("--when-full"), std::string::npos);
  PlanOptions options;
  options.when_full = WhenFull::kBlock;
  const auto plan = PlanFor(facts, Image(4 * kGiB, 20), options);
  ASSERT_TRUE(plan.has_value()) << plan.error().message;
  EXPECT_FALSE(plan->guaranteed);
  EXPECT_LT(plan->account.room_for_image, 4 * kGiB / kChunk);
  EXPECT_LE(plan->region_file_bytes, 4 * kGiB - plan->headroom_bytes);
}

TEST(PlanTest, HeadroomIsATenthOfTheFileSystemOrAGiB) {
  EXPECT_EQ(PlanFor(Disk(12 * kGiB), Image(kGiB, 4))->headroom_bytes,
            19 * kGiB / 10);
  Facts facts = Disk(4 * kGiB);
  facts.disk.partitions[1].ext->block_count = 5 * kGiB / 4096;
  EXPECT_EQ(PlanFor(facts, Image(kGiB, 4))->headroom_bytes, kGiB);
}

TEST(PlanTest, RegionFileThatIsThereCountsAsFree) {
  Facts facts = Disk(2 * kGiB);
  facts.spaces[0].space.file = {{kGiB, 5 * kGiB}};
  EXPECT_TRUE(PlanFor(facts, Image(4 * kGiB, 20)).has_value());
}

TEST(PlanTest, ImageLargerThanTheDiskIsRefused) {
  const auto plan = PlanFor(Disk(12 * kGiB), Image(21 * kGiB, 4));
  ASSERT_FALSE(plan.has_value());
  EXPECT_EQ(plan.error().code, ErrorCode::kRefused);
  EXPECT_NE(plan.error().message.find("1.0 GiB are missing"), std::string::npos)
      << plan.error().message;
}

TEST(PlanTest, UncleanSourceIsRefused) {
  Facts facts = Disk(12 * kGiB);
  facts.disk.partitions[1].ext->clean = false;
  const auto plan = PlanFor(facts, Image(kGiB, 4));
  ASSERT_FALSE(plan.has_value());
  EXPECT_EQ(plan.error().code, ErrorCode::kRefused);
}

TEST(PlanTest, WhatIsNotSupportedYetIsRefusedByName) {
  for (const char* type :
       {"crypto_LUKS", "LVM2_member", "linux_raid_member", "btrfs", "xfs",
        "ntfs", "BitLocker", "zfs_member", "bcache", "swsuspend"}) {
    Facts facts = Disk(12 * kGiB);
    facts.disk.partitions[0].content.type = type;
    const auto plan = PlanFor(facts, Image(kGiB, 4));
    ASSERT_FALSE(plan.has_value()) << type;
    EXPECT_EQ(plan.error().code, ErrorCode::kRefused);
  }
  Facts facts = Disk(12 * kGiB);
  facts.disk.partitions[0].content.ambiguous = true;
  EXPECT_FALSE(PlanFor(facts, Image(kGiB, 4)).has_value());
}

TEST(PlanTest, DiskWithoutATableOrWithOtherSectorsIsRefused) {
  Facts facts = Disk(12 * kGiB);
  facts.disk.table.type = TableType::kNone;
  EXPECT_EQ(PlanFor(facts, Image(kGiB, 4)).error().code, ErrorCode::kRefused);
  facts = Disk(12 * kGiB);
  facts.disk.identity.sector_bytes = 4096;
  EXPECT_EQ(PlanFor(facts, Image(kGiB, 4)).error().code,
            ErrorCode::kUnsupported);
}

TEST(PlanTest, RoomiestExt4GivesTheSpaceUnlessOneIsNamed) {
  Facts facts = Disk(12 * kGiB);
  ProbedPartition home = facts.disk.partitions[1];
  home.partition.number = 3;
  home.partition.extent.offset += 10 * kGiB;
  facts.disk.partitions.push_back(home);
  facts.spaces.push_back(
      {home.partition.extent.offset, FreeAt({5 * kGiB, 13 * kGiB})});
  EXPECT_EQ(PlanFor(facts, Image(kGiB, 4))->source_partition, 3u);
  PlanOptions options;
  options.region_partition = 2;
  EXPECT_EQ(PlanFor(facts, Image(kGiB, 4), options)->source_partition, 2u);
  options.region_partition = 1;
  EXPECT_FALSE(PlanFor(facts, Image(kGiB, 4), options).has_value());
  options.region_partition = 9;
  EXPECT_FALSE(PlanFor(facts, Image(kGiB, 4), options).has_value());
}

TEST(PlanTest, AnchorGoesToTheSecondPlaceWhereTheImageEndsWithTheDisk) {
  ManifestContent content = Image(kDisk, 4);
  // Data in the very last chunk: the image's backup table.
  const uint64_t last = kDisk / kChunk - 1;
  content.runs.push_back({last, 1, content.chunks.size()});
  content.chunks.push_back(content.chunks.front());
  content.boot_set.push_back({last, 1});
  content.tables.insert(content.tables.begin(), {kDisk - 512, 512});
  Facts facts = Disk(12 * kGiB);
  PlanOptions options;
  options.when_full = WhenFull::kBlock;
  auto plan = PlanFor(facts, content, options);
  ASSERT_TRUE(plan.has_value()) << plan.error().message;
  // The chunk before the last is zero, but A's 4 KiB begin in it.
  EXPECT_EQ(plan->anchor_offset, kDisk - kMiB / 4);
  content.runs.back() = {last - 1, 2, 4};
  content.chunks.push_back(content.chunks.front());
  plan = PlanFor(facts, content, options);
  ASSERT_TRUE(plan.has_value()) << plan.error().message;
  EXPECT_EQ(plan->anchor_offset, 786432u);
}

TEST(PlanTest, NoPlaceForTheAnchorIsRefused) {
  ManifestContent content = Image(kDisk, 10);
  const uint64_t last = kDisk / kChunk - 1;
  content.runs.push_back({last - 1, 2, content.chunks.size()});
  content.chunks.push_back(content.chunks.front());
  content.chunks.push_back(content.chunks.front());
  PlanOptions options;
  options.when_full = WhenFull::kBlock;
  const auto plan = PlanFor(Disk(12 * kGiB), content, options);
  ASSERT_FALSE(plan.has_value());
  EXPECT_EQ(plan.error().code, ErrorCode::kRefused);
}

TEST(PlanTest, OnlyHomesOutsideTheRegionAreRelocated) {
  const Manifest manifest = SignAndOpen(Image(kGiB, 20));
  const auto plan = MakePlan(Disk(12 * kGiB), manifest, {});
  ASSERT_TRUE(plan.has_value());
  const std::vector<DiskExtent> base{{10, 5}, {100, 50}};
  const auto chunks = ChunksToRelocate(plan->special, manifest, base);
  EXPECT_EQ(chunks.size(), 20u - 5 + 2);
  EXPECT_TRUE(std::ranges::is_sorted(chunks));
  for (const DiskChunk chunk : chunks) {
    EXPECT_FALSE(chunk.value >= 10 && chunk.value < 15);
  }
}

TEST(PlanTest, RegionTooScatteredSaysHowManyChunksAreMissing) {
  const Manifest manifest = SignAndOpen(Image(kGiB, 20));
  const auto plan = MakePlan(Disk(12 * kGiB), manifest, {});
  ASSERT_TRUE(plan.has_value());
  const std::vector<DiskExtent> good{{9000, plan->account.region}};
  EXPECT_TRUE(CheckRegion(*plan, manifest, good).has_value());
  const std::vector<DiskExtent> small{{9000, plan->account.region - 7}};
  const auto status = CheckRegion(*plan, manifest, small);
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code, ErrorCode::kNoSpace);
  EXPECT_NE(status.error().message.find(" 7 chunks"), std::string::npos)
      << status.error().message;
}

// `free` in pieces of `piece` bytes, each with as much in use behind it.
Facts Scattered(uint64_t free, uint64_t piece) {
  Facts facts = Disk(free);
  std::vector<ByteExtent>& pieces = facts.spaces[0].space.free;
  const uint64_t first = 257 * kMiB;
  pieces.clear();
  for (uint64_t at = 0; at + piece <= free; at += piece) {
    pieces.push_back({first + 2 * at, piece});
  }
  return facts;
}

TEST(PlanTest, FreeSpaceInPiecesSmallerThanAChunkIsNoRoom) {
  const auto plan =
      PlanFor(Scattered(8 * kGiB, kChunk - 4096), Image(kGiB, 20));
  ASSERT_FALSE(plan.has_value());
  EXPECT_EQ(plan.error().code, ErrorCode::kRefused);
  EXPECT_NE(plan.error().message.find("scattered"), std::string::npos)
      << plan.error().message;
}

TEST(PlanTest, RegionMayGrowUntilScatteredSpaceHasYieldedEnough) {
  // Every piece of three chunks' length holds two whole ones.
  const Facts facts = Scattered(8 * kGiB, 3 * kChunk - 8192);
  const auto plan = PlanFor(facts, Image(kGiB, 20));
  ASSERT_TRUE(plan.has_value()) << plan.error().message;
  EXPECT_TRUE(plan->guaranteed);
  EXPECT_EQ(plan->region_file_bytes_max,
            plan->source_free_bytes - plan->headroom_bytes);
  EXPECT_GT(plan->region_file_bytes_max, plan->region_file_bytes);
  EXPECT_GE(plan->account.metadata,
            MapStore::MetadataChunks(plan->image, facts.manifest_bytes,
                                     8 * kGiB / (3 * kChunk)));
}

TEST(PlanTest, SpaceWhereTheImageMustStartIsNoRoomForItsMetadata) {
  ManifestContent content = Image(kGiB, 20);
  content.pinned = {{0, kGiB / kChunk}};
  Facts facts = Disk(2 * kGiB);
  facts.spaces[0].space = FreeAt({257 * kMiB, 700 * kMiB});
  PlanOptions options;
  options.headroom_bytes = 16 * kMiB;
  options.when_full = WhenFull::kBlock;
  const auto plan = PlanFor(facts, content, options);
  ASSERT_FALSE(plan.has_value());
  EXPECT_EQ(plan.error().code, ErrorCode::kRefused);
}

TEST(PlanTest, WhatKeepsAFileFromGrowingIsRefused) {
  Facts facts = Disk(12 * kGiB);
  facts.spaces[0].space.obstacle = "is marked read-only";
  const auto plan = PlanFor(facts, Image(kGiB, 4));
  ASSERT_FALSE(plan.has_value());
  EXPECT_EQ(plan.error().message, "partition 2 is marked read-only");
}

TEST(PlanTest, WhatTheFileSystemHoldsBackIsNotCountedOn) {
  Facts facts = Disk(12 * kGiB);
  facts.spaces[0].space.reserve_bytes = 77 * kMiB;
  PlanOptions options;
  options.headroom_bytes = 0;
  const auto plan = PlanFor(facts, Image(kGiB, 4), options);
  ASSERT_TRUE(plan.has_value()) << plan.error().message;
  EXPECT_EQ(plan->region_file_bytes_max, 12 * kGiB - 77 * kMiB);
}

TEST(PlanTest, TooLittleMemoryIsRefused) {
  Facts facts = Disk(12 * kGiB);
  facts.memory_bytes = 60 * kMiB;
  const auto plan = PlanFor(facts, Image(kGiB, 4));
  ASSERT_FALSE(plan.has_value());
  EXPECT_EQ(plan.error().code, ErrorCode::kRefused);
  EXPECT_NE(plan.error().message.find("memory"), std::string::npos);
  facts.memory_bytes = kGiB;
  EXPECT_TRUE(PlanFor(facts, Image(kGiB, 4)).has_value());
}

Partition ImagePartition(uint32_t number, ByteExtent extent, uint8_t type) {
  Partition partition;
  partition.number = number;
  partition.extent = extent;
  partition.mbr_type = type;
  return partition;
}

TEST(PlanTest, ImagePartitionsThatAreNotAlignedAreRefused) {
  Facts facts = Disk(12 * kGiB);
  facts.image_table.type = TableType::kMbr;
  facts.image_table.partitions = {
      ImagePartition(1, {kMiB, 8 * kMiB}, 0x83),
      ImagePartition(2, {9 * kMiB + 512, 8 * kMiB}, 0x83)};
  const auto plan = PlanFor(facts, Image(kGiB, 4));
  ASSERT_FALSE(plan.has_value());
  EXPECT_NE(plan.error().message.find("partition 2"), std::string::npos);
}

TEST(PlanTest, JsonComesBackAndIsHeldAgainstANewPlan) {
  const auto plan = PlanFor(Disk(12 * kGiB), Image(4 * kGiB, 20));
  ASSERT_TRUE(plan.has_value());
  const auto read = ReadPlanJson(PlanJson(*plan, {"http://server"}));
  ASSERT_TRUE(read.has_value()) << read.error().message;
  EXPECT_EQ(read->disk, "/dev/test");
  EXPECT_EQ(read->servers, std::vector<std::string>{"http://server"});
  EXPECT_TRUE(CheckSamePlan(*read, *plan).has_value());
  Plan other = *plan;
  other.identity.source_table_id[3] = std::byte{1};
  EXPECT_EQ(CheckSamePlan(*read, other).error().code, ErrorCode::kRefused);
  other = *plan;
  other.manifest_digest[0] ^= std::byte{1};
  EXPECT_FALSE(CheckSamePlan(*read, other).has_value());
  // A number that is none of ours is not bent into one.
  for (const char* number : {"-1", "1e3", "4294967296", "\"2\""}) {
    std::string text = PlanJson(*plan, {});
    const std::string key = "\"source_partition\": ";
    const size_t at = text.find(key) + key.size();
    text.replace(at, text.find_first_of(",\n", at) - at, number);
    EXPECT_FALSE(ReadPlanJson(text).has_value()) << number;
  }
  for (const char* bad : {"", "{}", "[1]", "{\"bootstream_plan\":1}", "nul"}) {
    EXPECT_FALSE(ReadPlanJson(bad).has_value()) << bad;
  }
}

}  // namespace
}  // namespace bootstream
