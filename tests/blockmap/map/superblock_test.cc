#include "blockmap/map/superblock.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <vector>

#include "blockmap/map/sealed.h"

namespace bootstream {
namespace {

DiskIdentity SomeDisk() {
  DiskIdentity disk;
  disk.size_bytes = 1'000'000'000;
  disk.table_type = TableType::kGpt;
  disk.source_table_id.fill(std::byte{3});
  disk.serial_sha256.fill(std::byte{4});
  return disk;
}

Anchor SomeAnchor(uint64_t sequence) {
  Anchor anchor;
  anchor.sequence = sequence;
  anchor.features = {0, 5, 6};
  anchor.migration_id.fill(std::byte{7});
  anchor.disk = SomeDisk();
  anchor.target_table_id.fill(std::byte{8});
  anchor.previous_table_id.fill(std::byte{3});
  anchor.superblock_chunks = {DiskChunk{100}, DiskChunk{200}};
  return anchor;
}

Stub SomeStub() {
  Stub stub;
  stub.features = {0, 5, 6};
  stub.migration_id.fill(std::byte{7});
  stub.disk = SomeDisk();
  stub.superblock_chunks = {DiskChunk{100}, DiskChunk{200}};
  return stub;
}

Superblock SomeSuperblock() {
  Superblock sb;
  sb.features = {0, 5, 6};
  sb.sequence = 11;
  sb.migration_id.fill(std::byte{7});
  sb.disk = SomeDisk();
  sb.phase = Phase::kStreaming;
  sb.healthy_once = true;
  sb.guaranteed = true;
  sb.image_bytes = uint64_t{4096} * 12345;
  sb.image_version = uint64_t{13} << 48;
  sb.manifest_digest.fill(std::byte{9});
  sb.manifest_bytes = 777;
  sb.target_table_id.fill(std::byte{8});
  sb.previous_table_id.fill(std::byte{3});
  sb.superblock_chunks = {DiskChunk{100}, DiskChunk{200}};
  sb.anchor_offset = 786432;
  sb.checkpoint_chunk = DiskChunk{300};
  sb.checkpoint_epoch = 4;
  sb.journal_chunk = DiskChunk{301};
  sb.journal_epoch = 5;
  sb.journal_sequence = 99;
  sb.manifest_chunk = DiskChunk{302};
  sb.manifest_epoch = 1;
  sb.next_epoch = 6;
  sb.boots_without_health = 2;
  sb.boots_total = 8;
  sb.source_fs_offset = 1 << 20;
  sb.source_fs_uuid.fill(std::byte{10});
  sb.source_fingerprint.fill(std::byte{11});
  sb.region_chunk_count = 5000;
  sb.journal_chunks = 3;
  sb.spare_chunks = 17;
  sb.old_superblock_chunk = DiskChunk{303};
  sb.starts_without_boot = 1;
  sb.counted_boot.fill(std::byte{12});
  sb.image_name = "debian";
  sb.network = "ip=dhcp";
  sb.server_urls = {"http://a/", "https://b:8443/x"};
  return sb;
}

TEST(SuperblockTest, RoundTripKeepsEveryField) {
  const Superblock sb = SomeSuperblock();
  const auto block = EncodeSuperblock(sb);
  ASSERT_TRUE(block);
  const auto back = DecodeSuperblock(*block);
  ASSERT_TRUE(back) << back.error().message;
  // Every field that is encoded: encoding again gives the same bytes.
  EXPECT_EQ(*EncodeSuperblock(*back), *block);
  EXPECT_EQ(back->phase, sb.phase);
  EXPECT_EQ(back->server_urls, sb.server_urls);
  EXPECT_EQ(back->journal_chunks, sb.journal_chunks);
  EXPECT_EQ(back->spare_chunks, sb.spare_chunks);
  EXPECT_EQ(back->starts_without_boot, sb.starts_without_boot);
  EXPECT_EQ(back->counted_boot, sb.counted_boot);
  EXPECT_TRUE(back->healthy_once && back->guaranteed);
  EXPECT_FALSE(back->committed || back->rollback_wished ||
               back->give_up_source_when_full);
}

TEST(SuperblockTest, EveryFlagIsKept) {
  const std::vector<bool Superblock::*> flags = {
      &Superblock::healthy_once,
      &Superblock::committed,
      &Superblock::give_up_source_when_full,
      &Superblock::guaranteed,
      &Superblock::rollback_wished,
      &Superblock::keep_target};
  for (const auto flag : flags) {
    Superblock sb = SomeSuperblock();
    for (const auto other : flags) sb.*other = other == flag;
    const auto back = DecodeSuperblock(*EncodeSuperblock(sb));
    ASSERT_TRUE(back);
    for (const auto other : flags) EXPECT_EQ((*back).*other, other == flag);
  }
}

TEST(SuperblockTest, EveryDamagedByteIsNoticed) {
  auto block = *EncodeSuperblock(SomeSuperblock());
  for (size_t i = 0; i < block.size(); ++i) {
    block[i] ^= std::byte{0x10};
    EXPECT_FALSE(DecodeSuperblock(block)) << i;
    block[i] ^= std::byte{0x10};
  }
  EXPECT_TRUE(DecodeSuperblock(block));
}

TEST(SuperblockTest, UnknownRefuseBitIsUnsupportedOthersAreKept) {
  Superblock sb = SomeSuperblock();
  sb.features.refuse = 1;
  const auto refused = DecodeSuperblock(*EncodeSuperblock(sb));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kUnsupported);
  EXPECT_EQ(DecodeSuperblock(*EncodeSuperblock(SomeSuperblock()))->features,
            (FeatureMasks{0, 5, 6}));
}

TEST(SuperblockTest, SealedNonsenseIsRefused) {
  const auto block = *EncodeSuperblock(SomeSuperblock());
  const auto with = [&block](size_t at, uint8_t value) {
    auto bad = block;
    bad[at] = std::byte{value};
    Seal(bad);
    const auto decoded = DecodeSuperblock(bad);
    return decoded ? ErrorCode::kIo : decoded.error().code;
  };
  EXPECT_EQ(with(12, 1), ErrorCode::kCorrupt);        // chunk_bytes
  EXPECT_EQ(with(72, 1), ErrorCode::kUnsupported);    // sector_bytes
  EXPECT_EQ(with(76, 9), ErrorCode::kCorrupt);        // table_type
  EXPECT_EQ(with(136, 13), ErrorCode::kUnsupported);  // phase
  EXPECT_EQ(with(136, 0), ErrorCode::kUnsupported);
  EXPECT_EQ(with(140, 0x40), ErrorCode::kUnsupported);  // flags
  EXPECT_EQ(with(144, 1), ErrorCode::kCorrupt);         // image_bytes
  EXPECT_EQ(with(404, 1), ErrorCode::kCorrupt);         // reserved
  EXPECT_EQ(with(440, 1), ErrorCode::kCorrupt);
  EXPECT_EQ(with(513, 0xff), ErrorCode::kCorrupt);  // string length
  EXPECT_EQ(with(4095, 1), ErrorCode::kCorrupt);    // after the strings
}

TEST(SuperblockTest, StringsUpToTheEndFitAndOneMoreByteDoesNot) {
  Superblock sb = SomeSuperblock();
  sb.image_name.clear();
  sb.server_urls.clear();
  sb.network.assign(4096 - 512 - 6, 'x');
  const auto block = EncodeSuperblock(sb);
  ASSERT_TRUE(block);
  EXPECT_EQ(DecodeSuperblock(*block)->network, sb.network);
  sb.network += 'x';
  EXPECT_EQ(EncodeSuperblock(sb).error().code, ErrorCode::kInvalid);
  sb.network.assign(70'000, 'x');
  EXPECT_FALSE(EncodeSuperblock(sb));
  sb.network.clear();
  sb.server_urls.assign(70'000, "");
  EXPECT_FALSE(EncodeSuperblock(sb));
}

TEST(SuperblockTest, PhasesHaveNames) {
  EXPECT_EQ(PhaseName(Phase::kReleased), "released");
  EXPECT_EQ(PhaseName(Phase::kRollingBack), "rolling-back");
  EXPECT_EQ(PhaseName(Phase::kParked), "parked");
}

std::array<std::byte, kAnchorBytes> Candidate(
    const std::vector<Anchor>& anchors) {
  std::array<std::byte, kAnchorBytes> bytes{};
  for (const Anchor& anchor : anchors) {
    const auto sector = EncodeAnchor(anchor);
    std::copy(sector.begin(), sector.end(),
              bytes.begin() + anchor.sequence % 2 * 2048);
  }
  return bytes;
}

TEST(AnchorTest, RoundTripKeepsEveryField) {
  const Anchor anchor = SomeAnchor(4);
  const auto back = DecodeAnchor(Candidate({anchor}));
  ASSERT_TRUE(back);
  EXPECT_EQ(EncodeAnchor(*back), EncodeAnchor(anchor));
  EXPECT_EQ(back->sequence, 4U);
  EXPECT_EQ(back->disk, anchor.disk);
  EXPECT_EQ(back->superblock_chunks, anchor.superblock_chunks);
}

TEST(AnchorTest, NewerOfTheTwoCountsAndSurvivesDamageOfTheOther) {
  auto both = Candidate({SomeAnchor(4), SomeAnchor(5)});
  EXPECT_EQ(DecodeAnchor(both)->sequence, 5U);
  both[2048 + 60] ^= std::byte{1};
  EXPECT_EQ(DecodeAnchor(both)->sequence, 4U);
}

TEST(AnchorTest, EveryDamagedByteIsNoticed) {
  auto bytes = Candidate({SomeAnchor(4)});
  for (size_t i = 0; i < kSectorBytes; ++i) {
    bytes[i] ^= std::byte{0x80};
    const auto damaged = DecodeAnchor(bytes);
    ASSERT_FALSE(damaged) << i;
    EXPECT_EQ(damaged.error().code,
              i < 8 ? ErrorCode::kNotFound : ErrorCode::kCorrupt)
        << i;
    bytes[i] ^= std::byte{0x80};
  }
}

TEST(AnchorTest, ZeroesAreNoAnchorAndANewerOneIsUnsupported) {
  EXPECT_EQ(DecodeAnchor(Candidate({})).error().code, ErrorCode::kNotFound);
  Anchor newer = SomeAnchor(3);
  newer.features.refuse = 2;
  EXPECT_EQ(DecodeAnchor(Candidate({SomeAnchor(4), newer})).error().code,
            ErrorCode::kUnsupported);
}

TEST(AnchorTest, CandidatesAreTheLastWhole256KAndTheOneBeforeTheFirstMiB) {
  const uint64_t mib = 1 << 20;
  EXPECT_EQ(AnchorCandidates(10 * mib)[0], 10 * mib - 262144);
  EXPECT_EQ(AnchorCandidates(10 * mib + 262143)[0], 10 * mib - 262144);
  EXPECT_EQ(AnchorCandidates(10 * mib)[1], 786432U);
  EXPECT_EQ(AnchorCandidates(1000)[0], kNone);
  EXPECT_EQ(AnchorCandidates(1000)[1], kNone);
}

TEST(StubTest, RoundTripKeepsEveryField) {
  const auto sector = EncodeStub(SomeStub());
  const auto back = DecodeStub(sector);
  ASSERT_TRUE(back);
  EXPECT_EQ(EncodeStub(*back), sector);
  EXPECT_EQ(back->disk, SomeDisk());
  EXPECT_EQ(back->features, SomeStub().features);
}

TEST(StubTest, EveryDamagedByteBehindTheBootCodeIsNoticed) {
  auto sector = EncodeStub(SomeStub());
  for (size_t i = 256; i < sector.size(); ++i) {
    sector[i] ^= std::byte{0x80};
    EXPECT_FALSE(DecodeStub(sector)) << i;
    sector[i] ^= std::byte{0x80};
  }
}

TEST(StubTest, IsABootSectorWithoutPartitionsThatSaysWhatToDo) {
  const auto sector = EncodeStub(SomeStub());
  EXPECT_EQ(sector[510], std::byte{0x55});
  EXPECT_EQ(sector[511], std::byte{0xaa});
  EXPECT_TRUE(AllZero(std::span(sector).subspan(440, 70)));
  const std::string text(reinterpret_cast<const char*>(sector.data()), 256);
  EXPECT_NE(text.find("this disk is between two systems"), std::string::npos);
  EXPECT_NE(text.find("from the network"), std::string::npos);
  // The message that the code prints is where the code says, and ends.
  const size_t message = static_cast<uint8_t>(sector[0x0d]);
  EXPECT_EQ(text.find("\r\nbootstream"), message);
  EXPECT_NE(text.find('\0', message), std::string::npos);
}

TEST(StubTest, OtherBootSectorsAreNoStub) {
  std::array<std::byte, kSectorBytes> sector{};
  sector[510] = std::byte{0x55};
  sector[511] = std::byte{0xaa};
  EXPECT_EQ(DecodeStub(sector).error().code, ErrorCode::kNotFound);
}

}  // namespace
}  // namespace bootstream
