#include "imgserver/image_builder.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "blockmap/base/file_util.h"
#include "blockmap/map/superblock.h"
#include "imgserver/boot_trace.h"
#include "imgserver/image_verifier.h"
#include "imgserver/repository.h"
#include "tests/imgserver/image_fixture.h"

namespace bootstream {
namespace {

namespace fs = std::filesystem;

class ImageBuilderTest : public ImageTest {
 protected:
  Manifest Load(const std::string& version,
                const std::string& repository = "repo") {
    const auto open = Repository::Open(Path(repository));
    const auto keys = Keys();
    auto manifest = Repository::Load(
        {"debian", version, open->manifest_path("debian", version)}, &keys);
    EXPECT_TRUE(manifest) << manifest.error().message;
    return std::move(*manifest);
  }
  VerifyReport Verify(const std::string& repository = "repo") {
    Progress progress(stderr, Progress::Style::kSilent);
    return *VerifyRepository(*Repository::Open(Path(repository)), Keys(),
                             std::nullopt, progress);
  }
  // The disk, made anew from packs.
  void ExpectRestores(const Manifest& manifest, const std::string& disk) {
    const std::vector<char> original = ReadDisk(disk);
    const Grid grid = manifest.grid();
    const auto repository = Repository::Open(Path("repo"));
    FrameDecoder decoder;
    for (uint64_t chunk = 0; chunk < grid.chunk_count(); ++chunk) {
      std::vector<std::byte> content(grid.bytes_of(chunk));
      if (const auto* entry = manifest.Find(ImageChunk{chunk})) {
        const auto& pack = manifest.content().packs[entry->pack];
        const auto bytes =
            ReadWholeFile(repository->pack_path(pack.digest), kPackBytesMax);
        ASSERT_TRUE(bytes);
        ASSERT_TRUE(decoder.DecodeVerified(
            std::span(*bytes).subspan(entry->pack_offset, entry->packed_bytes),
            entry->digest, content));
      }
      ASSERT_EQ(
          std::memcmp(content.data(), original.data() + grid.offset_of(chunk),
                      content.size()),
          0)
          << "chunk " << chunk;
    }
  }
  std::vector<char> ReadDisk(const std::string& path) {
    return DiskTest::Load(path);
  }
  std::string MakeTrace() {
    const uint64_t disk = 64 << 20;
    const auto [a, b] = AnchorCandidates(disk);
    const std::string text = FormatTrace({disk,
                                          "uefi",
                                          {{1, 30 << 20, 4096},
                                           {2, 0, 512},
                                           {9, a, 4096},
                                           {9, b, 4096},
                                           {9, a, 4096},
                                           {12, 32 << 20, 65536}}});
    std::ofstream(Path("trace")) << text;
    return Path("trace");
  }
};

TEST_F(ImageBuilderTest, ImageHoldsTheDisk) {
  const auto disk = MakeDisk("disk");
  const auto report = Build(Options(disk, "1.0"));
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_TRUE(report->is_latest);
  EXPECT_EQ(report->warnings.size(), 1U);  // not watched
  const Manifest manifest = Load("1.0");
  ExpectRestores(manifest, disk);
  EXPECT_TRUE(manifest.InBootSet(ImageChunk{0}));
  EXPECT_TRUE(manifest.InBootSet(ImageChunk{1023}));
  EXPECT_TRUE(manifest.IsPinned(ImageChunk{40}));
  EXPECT_FALSE(manifest.IsPinned(ImageChunk{500}));
  EXPECT_EQ(Verify().faults, std::vector<std::string>{});
  EXPECT_TRUE(fs::is_empty(Path("repo/.tmp")));
}

TEST_F(ImageBuilderTest, TwoBuildsGiveTheSameBytes) {
  const auto disk = MakeDisk("disk");
  auto one = Options(disk, "1.0", "one");
  auto two = Options(disk, "1.0", "two");
  one.trace_file = two.trace_file = MakeTrace();
  one.thread_count = 1;
  two.thread_count = 4;
  ASSERT_TRUE(Build(one));
  ASSERT_TRUE(Build(two));
  Run("diff -r one two");
}

TEST_F(ImageBuilderTest, PacksHoldTheTracedBootFirst) {
  auto options = Options(MakeDisk("disk"), "1.0");
  options.trace_file = MakeTrace();
  const auto report = Build(options);
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_TRUE(report->warnings.empty());
  const Manifest manifest = Load("1.0");
  EXPECT_EQ(manifest.content().boot_set[0].first, (30U << 20) / 65536);
  EXPECT_EQ(manifest.Find(ImageChunk{(30 << 20) / 65536})->pack_offset, 0U);
  ASSERT_FALSE(manifest.content().prefetch.empty());
  EXPECT_EQ(manifest.content().prefetch.back().first, (32U << 20) / 65536);
  uint64_t end = 0;  // of the boot set in the pack
  for (const auto& extent : manifest.content().boot_set) {
    for (uint64_t i = 0; i < extent.count; ++i) {
      if (const auto* e = manifest.Find(ImageChunk{extent.first + i})) {
        end = std::max(end, e->pack_offset + e->packed_bytes);
      }
    }
  }
  EXPECT_EQ(end, report->boot_packed_bytes);
}

TEST_F(ImageBuilderTest, NewVersionStoresOnlyWhatChanged) {
  const auto disk = MakeDisk("disk");
  ASSERT_TRUE(Build(Options(disk, "1.0")));
  Run("head -c 100000 /dev/urandom | dd of=disk bs=1M seek=40 conv=notrunc");
  const auto second = Build(Options(disk, "1.1"));
  ASSERT_TRUE(second) << second.error().message;
  EXPECT_EQ(second->new_pack_count, 1U);
  EXPECT_LE(second->new_packed_bytes, FrameBytesMax(2 * kChunkBytesMin));
  ExpectRestores(Load("1.1"), disk);
  EXPECT_EQ(Load("1.1").content().packs.size(), 2U);
  EXPECT_EQ(Verify().faults, std::vector<std::string>{});
}

TEST_F(ImageBuilderTest, SameContentInOneImageIsStoredOnce) {
  const auto disk = MakeDisk("disk");
  Run("dd if=disk of=disk bs=1M skip=30 seek=59 count=3 conv=notrunc");
  ASSERT_TRUE(Build(Options(disk, "1.0")));
  const Manifest manifest = Load("1.0");
  std::set<uint64_t> places;
  for (const auto& entry : manifest.content().chunks) {
    places.insert(entry.pack_offset);
  }
  EXPECT_LE(places.size() + 40, manifest.content().chunks.size());
  ExpectRestores(manifest, disk);
}

TEST_F(ImageBuilderTest, SmallPacksAreSplit) {
  auto options = Options(MakeDisk("disk"), "1.0");
  options.pack_bytes_max = 1 << 20;
  const auto report = Build(options);
  ASSERT_TRUE(report);
  EXPECT_GT(report->new_pack_count, 5U);
  const Manifest manifest = Load("1.0");
  for (const auto& pack : manifest.content().packs) {
    EXPECT_LE(pack.size_bytes, 1U << 20);
  }
  ExpectRestores(manifest, Path("disk"));
}

TEST_F(ImageBuilderTest, BuildingTheSameAgainIsNoError) {
  const auto disk = MakeDisk("disk");
  ASSERT_TRUE(Build(Options(disk, "1.0")));
  Run("cp -a repo before");
  const auto again = Build(Options(disk, "1.0"));
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_TRUE(again->already_published);
  Run("diff -r before repo");
}

TEST_F(ImageBuilderTest, PublishedVersionIsNeverReplaced) {
  const auto disk = MakeDisk("disk");
  ASSERT_TRUE(Build(Options(disk, "1.0")));
  Run("cp -a repo before");
  Flip(disk, 30 << 20);
  for (const char* version : {"1.0", "1", "1.0.0"}) {
    const auto again = Build(Options(disk, version));
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error().code, ErrorCode::kRefused);
    Run("diff -r before repo");
  }
}

TEST_F(ImageBuilderTest, LatestOnlyMovesForward) {
  const auto disk = MakeDisk("disk");
  ASSERT_TRUE(Build(Options(disk, "2.0")));
  const auto older = Build(Options(disk, "1.9"));
  ASSERT_TRUE(older);
  EXPECT_FALSE(older->is_latest);
  const auto repository = Repository::Open(Path("repo"));
  EXPECT_EQ(repository->LoadLatest("debian", Keys())->version, "2.0");
  ASSERT_TRUE(Build(Options(disk, "2.0.1")));
  EXPECT_EQ(repository->LoadLatest("debian", Keys())->version, "2.0.1");
}

TEST_F(ImageBuilderTest, AnotherKeysImageIsLeftAlone) {
  const auto disk = MakeDisk("disk");
  ASSERT_TRUE(Build(Options(disk, "1.0")));
  ASSERT_TRUE(PrivateKey::Generate()->Save(Path("other")));
  auto options = Options(disk, "2.0");
  options.key_file = Path("other");
  const auto report = Build(options);
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().code, ErrorCode::kRefused);
}

TEST_F(ImageBuilderTest, LeftoversOfAKilledBuildAreRemoved) {
  const auto disk = MakeDisk("disk");
  Run("mkdir -p repo/.tmp && head -c 5000 /dev/urandom >repo/.tmp/pack-0");
  ASSERT_TRUE(Build(Options(disk, "1.0")));
  EXPECT_TRUE(fs::is_empty(Path("repo/.tmp")));
}

TEST_F(ImageBuilderTest, OneBuildAtATime) {
  const auto disk = MakeDisk("disk");
  const auto repository = Repository::OpenOrCreate(Path("repo"));
  const auto lock = repository->Lock();
  ASSERT_TRUE(lock);
  const auto report = Build(Options(disk, "1.0"));
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().code, ErrorCode::kUnavailable);
}

TEST_F(ImageBuilderTest, LostPackIsMadeAgain) {
  const auto disk = MakeDisk("disk");
  ASSERT_TRUE(Build(Options(disk, "1.0")));
  fs::remove_all(Path("repo/packs"));
  EXPECT_FALSE(Verify().faults.empty());
  const auto report = Build(Options(disk, "1.1"));
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(Verify().faults, std::vector<std::string>{});
}

TEST_F(ImageBuilderTest, VerifyFindsEveryKindOfDamage) {
  ASSERT_TRUE(Build(Options(MakeDisk("disk"), "1.0")));
  const Manifest manifest = Load("1.0");
  const auto repository = Repository::Open(Path("repo"));
  const auto pack = repository->pack_path(manifest.content().packs[0].digest);
  Flip(pack, 12345);
  EXPECT_EQ(Verify().faults.size(), 1U);
  Flip(pack, 12345);
  EXPECT_TRUE(Verify().faults.empty());
  const auto manifest_path = repository->manifest_path("debian", "1.0");
  Flip(manifest_path, 300);
  EXPECT_FALSE(Verify().faults.empty());
  Flip(manifest_path, 300);
  Flip(repository->latest_path("debian"), 30);
  EXPECT_EQ(Verify().faults.size(), 1U);
  Flip(repository->latest_path("debian"), 30);
  fs::resize_file(pack, manifest.content().packs[0].size_bytes - 1);
  EXPECT_EQ(Verify().faults.size(), 1U);
}

}  // namespace
}  // namespace bootstream
