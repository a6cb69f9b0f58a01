#include "blockmap/base/coding.h"
#include "blockmap/disk/region_tag.h"
#include "blockmap/image/latest.h"
#include "blockmap/image/pack.h"
#include "blockmap/map/chain.h"
#include "blockmap/map/checkpoint.h"
#include "blockmap/map/journal.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/fuzz_keys.h"
#include "tests/fuzz/seeds/seeds.h"
#include "tests/support/fake_image.h"

namespace bootstream {
namespace {

using Bytes = std::vector<std::byte>;

void Append(Bytes& out, std::span<const std::byte> more) {
  out.insert(out.end(), more.begin(), more.end());
}

ManifestContent SmallImage() {
  const Bytes image = RandomBytes(3 * kChunkBytesMin + 8192, 1);
  ManifestContent content = DescribeImage(image, kChunkBytesMin);
  content.name = "debian";
  content.version = "13.2";
  content.kernel_command_line = "root=UUID=x quiet";
  content.base_urls = {"http://a/"};
  content.boot_set = {{3, 1}, {0, 2}};
  content.pinned = {{1, 2}};
  content.tables = {{3 * kChunkBytesMin + 4096, 512}, {512, 512}, {0, 512}};
  content.prefetch = {{2, 1, 10}};
  return content;
}

Superblock SomeSuperblock() {
  Superblock sb;
  sb.sequence = 7;
  sb.migration_id.fill(std::byte{0x42});
  sb.disk.size_bytes = 1 << 30;
  sb.disk.table_type = TableType::kGpt;
  sb.phase = Phase::kStreaming;
  sb.image_bytes = 1 << 28;
  sb.superblock_chunks = {DiskChunk{5}, DiskChunk{6}};
  sb.anchor_offset = 786432;
  sb.image_name = "debian";
  sb.network = "dhcp";
  sb.server_urls = {"http://a/", "https://b/"};
  return sb;
}

}  // namespace

void PutImages(Seeds& seeds) {
  const PrivateKey* signer = &FuzzKey();
  ManifestContent content = SmallImage();
  seeds.Put("manifest", "small", *Manifest::Encode(content, {&signer, 1}));
  content.prefetch.clear();
  content.base_urls.clear();
  content.chunks.resize(1);
  content.runs = {{0, 1, 0}};
  content.boot_set = {{3, 1}, {0, 1}};
  seeds.Put("manifest", "smaller", *Manifest::Encode(content, {&signer, 1}));
  const Latest latest{"debian", "13.2.0.7", Sha256Of(AsBytes("x"))};
  seeds.Put("latest", "plain", *EncodeLatest(latest, FuzzKey()));
  for (const char* name : {"debian", "debian-13:13.2.0.7", "13.2", "00ff7e"}) {
    seeds.Put("names", name, std::string(name));
  }
  seeds.Put(
      "names", "key",
      std::string("-----BEGIN PUBLIC KEY-----\n"
                  "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAx"
                  "ZuE=\n-----END PUBLIC KEY-----\n"));
  FrameEncoder encoder(3);
  for (const uint32_t size : {0U, 1U, 4096U, 65536U}) {
    Bytes content_bytes(size);
    for (size_t i = 0; i < content_bytes.size(); i += 7) {
      content_bytes[i] = static_cast<std::byte>(i / 700);
    }
    Bytes seed;
    ByteWriter out(seed);
    out.U8(static_cast<uint8_t>(size));
    out.U16(static_cast<uint16_t>(size >> 8));
    out.Bytes(*encoder.Encode(content_bytes));
    seeds.Put("pack_frame", std::to_string(size), seed);
  }
}

void PutMap(Seeds& seeds) {
  const Superblock sb = SomeSuperblock();
  seeds.Put("superblock", "superblock", *EncodeSuperblock(sb));
  Anchor anchor;
  anchor.sequence = 2;
  anchor.disk = sb.disk;
  anchor.superblock_chunks = sb.superblock_chunks;
  seeds.Put("superblock", "anchor", EncodeAnchor(anchor));
  Bytes second(2048);
  Append(second, EncodeAnchor(anchor));
  seeds.Put("superblock", "anchor-sector-4", second);
  Stub stub;
  stub.disk = sb.disk;
  stub.superblock_chunks = sb.superblock_chunks;
  seeds.Put("superblock", "stub", EncodeStub(stub));
  seeds.Put(
      "superblock", "region-tag",
      EncodeRegionTag({sb.chunk_bytes, sb.migration_id, sb.superblock_chunks}));
  ChainHeader header;
  header.name.kind = ChainKind::kJournal;
  header.next = DiskChunk{9};
  header.first_sequence = 4;
  const auto chain = EncodeChainHeader(header);
  seeds.Put("superblock", "chain", std::span(chain).first(128));

  const std::vector<Record> records = {
      SetRecord{ImageChunk{1}, {Location::At(DiskChunk{40}), 0xff, 0x0f}},
      SetRecord{ImageChunk{2}, {Location::Zero(), 0, 0}},
      RelocationRecord{DiskChunk{3}, DiskChunk{41}},
      PatchRecord{ImageChunk{4}, {8192, Bytes(20)}},
      SetRecord{ImageChunk{300}, {Location::At(DiskChunk{42}), 1, 1}},
      RelocationRecord{DiskChunk{3}, std::nullopt},
      ContinueRecord{5, DiskChunk{44}}};
  Bytes journal;
  ByteWriter out(journal);
  RecordBatch all;
  for (size_t i = 0; i < records.size(); ++i) {
    RecordBatch one;
    one.Add(records[i]);
    all.Add(records[i]);
    const Bytes& payload = one.payloads()[0];
    out.U16(static_cast<uint16_t>(payload.size() | (i % 2 != 0 ? 0x8000 : 0)));
    out.Bytes(payload);
  }
  seeds.Put("journal", "blocks", journal);
  seeds.Put("journal", "records", all.payloads()[0]);

  const MapLimits limits{Grid{kChunkBytesMin, uint64_t{1000} * kChunkBytesMin},
                         Grid{kChunkBytesMin, uint64_t{2000} * kChunkBytesMin}};
  BlockMap map;
  for (size_t i = 0; i < 5; ++i) {
    Require(ApplyRecord(records[i], limits, map).has_value(), "a good record");
  }
  const std::vector<DiskExtent> region = {{40, 100}, {150, 20}};
  seeds.Put("checkpoint", "map", EncodeCheckpoint(map, region));
  seeds.Put("checkpoint", "empty", EncodeCheckpoint(BlockMap(), {}));

  // Which piece, where, how many bytes: a phase, a sequence, nothing.
  seeds.Put("map_open", "untouched", Bytes(1));
  for (int piece = 0; piece < 16; ++piece) {
    Bytes edit;
    ByteWriter edits(edit);
    edits.U8(static_cast<uint8_t>(piece));
    edits.U16(static_cast<uint16_t>(piece % 2 != 0 ? 40 : 136));
    edits.U8(4);
    edits.U32(8);
    seeds.Put("map_open", "edit-" + std::to_string(piece), edit);
  }
}

}  // namespace bootstream
