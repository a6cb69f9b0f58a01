#include "blockmap/image/manifest.h"

#include <gtest/gtest.h>

#include <cstring>

#include "tests/support/fake_image.h"

namespace bootstream {
namespace {

constexpr uint64_t kChunk = kChunkBytesMin;

struct Signed {
  std::vector<std::byte> file;
  TrustedKeys keys;
};

ManifestContent Sample() {
  std::vector<std::byte> image = RandomBytes(20 * kChunk + 8192, 1);
  std::memset(image.data() + 3 * kChunk, 0, 4 * kChunk);
  std::memset(image.data() + 15 * kChunk, 0, kChunk);
  ManifestContent content = DescribeImage(image, kChunk);
  content.name = "debian-13";
  content.version = "13.2.0.7";
  content.kernel_command_line = "root=UUID=x quiet";
  content.base_urls = {"http://a/", "http://b/"};
  content.boot_set = {{20, 1}, {0, 2}, {8, 2}};
  content.pinned = {{1, 2}, {3, 4}};
  content.tables = {{20 * kChunk + 4096, 512}, {512, 512}, {0, 512}};
  content.prefetch = {{9, 3, 10}, {2, 1, 20}};
  content.table_id[3] = std::byte{42};
  return content;
}

Signed Sign(const ManifestContent& content) {
  const auto key = PrivateKey::Generate();
  const PrivateKey* signer = &*key;
  Signed out;
  auto file = Manifest::Encode(content, {&signer, 1});
  EXPECT_TRUE(file) << file.error().message;
  out.file = std::move(*file);
  out.keys.Add(std::move(*key->public_key()));
  return out;
}

Status EncodeStatus(const ManifestContent& content) {
  const auto key = PrivateKey::Generate();
  const PrivateKey* signer = &*key;
  const auto file = Manifest::Encode(content, {&signer, 1});
  if (!file) return file.error();
  return OkStatus();
}

TEST(ImageVersionTest, ComparesAsNumbers) {
  EXPECT_EQ(ParseImageVersion("13"), uint64_t{13} << 48);
  EXPECT_EQ(ParseImageVersion("13.2.0.7"),
            uint64_t{13} << 48 | uint64_t{2} << 32 | 7U);
  EXPECT_EQ(ParseImageVersion("65535.65535.65535.65535"), ~uint64_t{0});
  for (const char* bad : {"", ".", "1.", ".1", "1..2", "1.2.3.4.5", "65536",
                          "-1", "+1", "01", "1.02", " 1", "1 ", "v1", "1/2"}) {
    EXPECT_FALSE(ParseImageVersion(bad)) << bad;
  }
}

TEST(ImageNameTest, HasNoPathInIt) {
  EXPECT_TRUE(CheckImageName("debian-13_x.y"));
  EXPECT_TRUE(CheckImageName(std::string(63, 'a')));
  for (const std::string bad : {"", "..", ".a", "-a", "a/b", "A", "a b"}) {
    EXPECT_FALSE(CheckImageName(bad)) << bad;
  }
  EXPECT_FALSE(CheckImageName(std::string(64, 'a')));
}

TEST(ManifestTest, SaysWhatWasPutIn) {
  const ManifestContent in = Sample();
  const Signed sealed = Sign(in);
  const auto manifest = Manifest::Open(sealed.file, sealed.keys);
  ASSERT_TRUE(manifest) << manifest.error().message;
  const ManifestContent& out = manifest->content();
  EXPECT_EQ(out.name, in.name);
  EXPECT_EQ(out.version, in.version);
  EXPECT_EQ(out.kernel_command_line, in.kernel_command_line);
  EXPECT_EQ(out.base_urls, in.base_urls);
  EXPECT_EQ(out.image_bytes, in.image_bytes);
  EXPECT_EQ(out.chunk_bytes, in.chunk_bytes);
  EXPECT_EQ(out.tables, in.tables);
  EXPECT_EQ(out.table_id, in.table_id);
  ASSERT_EQ(out.prefetch.size(), 2U);
  EXPECT_EQ(out.prefetch[0].count, 3U);
  EXPECT_EQ(out.prefetch[1].time_ms, 20U);
  ASSERT_EQ(out.boot_set.size(), 3U);
  EXPECT_EQ(out.boot_set[0].first, 20U);
  ASSERT_EQ(out.chunks.size(), 16U);
  EXPECT_EQ(out.chunks[15].digest, in.chunks[15].digest);
  EXPECT_EQ(out.chunks[15].pack_offset, in.chunks[15].pack_offset);
}

TEST(ManifestTest, AsksToGrowByABitThatOthersMayIgnore) {
  ManifestContent content = Sample();
  const Signed plain = Sign(content);
  content.grow = true;
  const Signed grows = Sign(content);
  EXPECT_FALSE(Manifest::Open(plain.file, plain.keys)->content().grow);
  EXPECT_TRUE(Manifest::Open(grows.file, grows.keys)->content().grow);
  // Nothing but the mask differs in front of the trailer.
  ASSERT_EQ(plain.file.size(), grows.file.size());
  const size_t body = plain.file.size() - 88;
  for (size_t at = 0; at < body; ++at) {
    EXPECT_EQ(plain.file[at] != grows.file[at], at == 16) << at;
  }
  EXPECT_EQ(grows.file[16], std::byte{1});
}

TEST(ManifestTest, FindsChunksAndZeroes) {
  const ManifestContent in = Sample();
  const Manifest manifest = SignAndOpen(in);
  size_t entry = 0;
  for (uint64_t chunk = 0; chunk < manifest.grid().chunk_count(); ++chunk) {
    const bool zero = (chunk >= 3 && chunk < 7) || chunk == 15;
    ASSERT_EQ(manifest.IsZero(ImageChunk{chunk}), zero) << chunk;
    if (zero) continue;
    EXPECT_EQ(manifest.Find(ImageChunk{chunk})->digest,
              in.chunks[entry++].digest);
  }
  EXPECT_TRUE(manifest.IsZero(ImageChunk{21}));
  EXPECT_TRUE(manifest.IsZero(ImageChunk{~uint64_t{0}}));
  EXPECT_TRUE(manifest.InBootSet(ImageChunk{9}));
  EXPECT_FALSE(manifest.InBootSet(ImageChunk{10}));
  EXPECT_TRUE(manifest.InBootSet(ImageChunk{20}));
  EXPECT_FALSE(manifest.IsPinned(ImageChunk{0}));
  EXPECT_TRUE(manifest.IsPinned(ImageChunk{6}));
  EXPECT_FALSE(manifest.IsPinned(ImageChunk{7}));
}

TEST(ManifestTest, IsRefusedAtEveryShorterLength) {
  const Signed sealed = Sign(Sample());
  const Sha256 digest = Manifest::Open(sealed.file, sealed.keys)->digest();
  const std::span<const std::byte> file(sealed.file);
  for (size_t size = 0; size < file.size(); ++size) {
    ASSERT_FALSE(Manifest::Open(file.first(size), sealed.keys)) << size;
    ASSERT_FALSE(Manifest::OpenPinned(file.first(size), digest)) << size;
  }
}

TEST(ManifestTest, IsRefusedWithAnyByteChanged) {
  Signed sealed = Sign(Sample());
  const Sha256 digest = Manifest::Open(sealed.file, sealed.keys)->digest();
  for (size_t at = 0; at < sealed.file.size(); ++at) {
    sealed.file[at] ^= std::byte{1};
    ASSERT_FALSE(Manifest::Open(sealed.file, sealed.keys)) << at;
    sealed.file[at] ^= std::byte{1};
  }
  EXPECT_TRUE(Manifest::Open(sealed.file, sealed.keys));
  EXPECT_TRUE(Manifest::OpenPinned(sealed.file, digest));
}

// What a signer with our key but a broken program could have written: the
// structure is checked although the signature is right.
TEST(ManifestTest, StructureIsCheckedUnderAPinnedDigest) {
  const Signed sealed = Sign(Sample());
  const size_t body_bytes = sealed.file.size() - 16 - 72;
  size_t refused = 0;
  for (size_t at = 0; at < body_bytes; ++at) {
    std::vector<std::byte> file = sealed.file;
    file[at] ^= std::byte{0x80};
    const Sha256 digest = Sha256Of(std::span(file).first(body_bytes));
    refused += Manifest::OpenPinned(file, digest) ? 0 : 1;
  }
  EXPECT_GT(refused, 500U);  // digests and names may be anything
}

TEST(ManifestTest, WrongKeyIsRefusedAndNamed) {
  const Signed sealed = Sign(Sample());
  const Signed other = Sign(Sample());
  const auto manifest = Manifest::Open(sealed.file, other.keys);
  ASSERT_FALSE(manifest);
  EXPECT_EQ(manifest.error().code, ErrorCode::kRefused);
  EXPECT_NE(manifest.error().message.find("not trusted"), std::string::npos);
}

TEST(ManifestTest, AlteredManifestIsCorrupt) {
  Signed sealed = Sign(Sample());
  sealed.file[45] ^= std::byte{1};  // the image's size
  const auto manifest = Manifest::Open(sealed.file, sealed.keys);
  ASSERT_FALSE(manifest);
  EXPECT_EQ(manifest.error().code, ErrorCode::kCorrupt);
  EXPECT_NE(manifest.error().message.find("altered"), std::string::npos);
}

TEST(ManifestTest, AnyOfSeveralSignaturesIsEnough) {
  const auto first = PrivateKey::Generate();
  const auto second = PrivateKey::Generate();
  const std::array<const PrivateKey*, 2> signers = {&*first, &*second};
  const auto file = Manifest::Encode(Sample(), signers);
  ASSERT_TRUE(file);
  TrustedKeys keys;
  keys.Add(std::move(*second->public_key()));
  EXPECT_TRUE(Manifest::Open(*file, keys));
}

TEST(ManifestTest, SignatureDoesNotChangeTheDigest) {
  const Signed one = Sign(Sample());
  const Signed two = Sign(Sample());
  EXPECT_EQ(Manifest::Open(one.file, one.keys)->digest(),
            Manifest::Open(two.file, two.keys)->digest());
}

TEST(ManifestTest, NewerFormatsAreUnsupported) {
  const Signed sealed = Sign(Sample());
  for (const size_t at : {size_t{8}, size_t{64}}) {  // refuse mask, format
    std::vector<std::byte> file = sealed.file;
    file[at] = std::byte{2};
    const auto manifest = Manifest::Open(file, sealed.keys);
    ASSERT_FALSE(manifest);
    EXPECT_EQ(manifest.error().code, ErrorCode::kUnsupported);
  }
}

TEST(ManifestTest, ImpossibleContentIsRefused) {
  using Break = void (*)(ManifestContent&);
  const std::vector<std::pair<const char*, Break>> breaks = {
      {"name", [](ManifestContent& c) { c.name = "../x"; }},
      {"version", [](ManifestContent& c) { c.version = "x"; }},
      {"chunk size", [](ManifestContent& c) { c.chunk_bytes = 96 * 1024; }},
      {"tiny chunk", [](ManifestContent& c) { c.chunk_bytes = 32768; }},
      {"no size", [](ManifestContent& c) { c.image_bytes = 0; }},
      {"odd size", [](ManifestContent& c) { c.image_bytes += 512; }},
      {"shrunk", [](ManifestContent& c) { c.image_bytes -= 8192; }},
      {"run count", [](ManifestContent& c) { c.runs[0].count = 0; }},
      {"run overflow",
       [](ManifestContent& c) { c.runs.back().count = ~uint64_t{0}; }},
      {"run overlap", [](ManifestContent& c) { c.runs[1].first = 2; }},
      {"run touches", [](ManifestContent& c) { c.runs[1].first = 3; }},
      {"run entry", [](ManifestContent& c) { c.runs[1].entry += 1; }},
      {"lost entry", [](ManifestContent& c) { c.chunks.pop_back(); }},
      {"spare entry",
       [](ManifestContent& c) { c.chunks.push_back(c.chunks[0]); }},
      {"no such pack", [](ManifestContent& c) { c.chunks[2].pack = 1; }},
      {"past the pack",
       [](ManifestContent& c) { c.chunks.back().pack_offset += 1; }},
      {"offset overflow",
       [](ManifestContent& c) { c.chunks[0].pack_offset = ~uint64_t{0}; }},
      {"huge frame",
       [](ManifestContent& c) { c.chunks[0].packed_bytes = 2 * kChunk; }},
      {"empty frame", [](ManifestContent& c) { c.chunks[0].packed_bytes = 0; }},
      {"boot set twice", [](ManifestContent& c) { c.boot_set[2].first = 1; }},
      {"boot set outside",
       [](ManifestContent& c) { c.boot_set[2].first = 21; }},
      {"boot set without tables",
       [](ManifestContent& c) { c.boot_set.erase(c.boot_set.begin()); }},
      {"boot set without the first chunk",
       [](ManifestContent& c) {
         c.boot_set[1] = {1, 1};
       }},
      {"pinned order",
       [](ManifestContent& c) { std::swap(c.pinned[0], c.pinned[1]); }},
      {"pinned outside", [](ManifestContent& c) { c.pinned[1].count = 99; }},
      {"no tables", [](ManifestContent& c) { c.tables.clear(); }},
      {"last table", [](ManifestContent& c) { c.tables.pop_back(); }},
      {"odd table", [](ManifestContent& c) { c.tables[0].size = 100; }},
      {"table outside",
       [](ManifestContent& c) { c.tables[0].offset = c.image_bytes; }},
      {"prefetch", [](ManifestContent& c) { c.prefetch[0].count = 13; }},
      {"empty URL", [](ManifestContent& c) { c.base_urls[0].clear(); }},
  };
  ASSERT_TRUE(EncodeStatus(Sample()));
  for (const auto& [name, change] : breaks) {
    ManifestContent content = Sample();
    change(content);
    EXPECT_FALSE(EncodeStatus(content)) << name;
  }
}

TEST(ManifestTest, TableAsLongAsTheImageIsCheckedAtOnce) {
  ManifestContent content = Sample();
  content.image_bytes = uint64_t{1} << 55;
  const uint64_t chunks = content.image_bytes / content.chunk_bytes;
  content.boot_set = {{chunks / 2, chunks - chunks / 2}, {0, chunks / 2}};
  content.tables = {{512, content.image_bytes - 512}, {0, 512}};
  EXPECT_TRUE(EncodeStatus(content));
  content.boot_set[1].count -= 1;
  EXPECT_FALSE(EncodeStatus(content));
}

TEST(ManifestTest, SmallAfterAllForAnEmptyTerabyte) {
  ManifestContent content = Sample();
  content.image_bytes = uint64_t{1} << 40;
  std::vector<std::byte> file;
  const Manifest manifest = SignAndOpen(content, &file);
  EXPECT_LT(file.size(), 4096U);
  EXPECT_TRUE(manifest.IsZero(ImageChunk{1000000}));
}

}  // namespace
}  // namespace bootstream
