// fuzz_seeds FOLDER: writes FOLDER/TARGET/seed-NAME for every target, made by
// the real encoders where there is one.

#include <filesystem>
#include <string>

#include "blockmap/base/coding.h"
#include "blockmap/base/file_util.h"
#include "blockmap/image/latest.h"
#include "blockmap/image/pack.h"
#include "blockmap/map/chain.h"
#include "blockmap/map/checkpoint.h"
#include "blockmap/map/journal.h"
#include "blockmap/nbd/big_endian.h"
#include "blockmap/nbd/nbd_protocol.h"
#include "imgserver/boot_trace.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/fuzz_keys.h"
#include "tests/support/fake_image.h"

namespace bootstream {
namespace {

using Bytes = std::vector<std::byte>;

class Seeds {
 public:
  explicit Seeds(std::string folder) : folder_(std::move(folder)) {}
  void Put(const std::string& target, const std::string& name,
           std::span<const std::byte> bytes) {
    Require(FindFuzzTarget(target) != nullptr, "the target is there");
    const std::string folder = folder_ + "/" + target;
    std::filesystem::create_directories(folder);
    const auto status = WriteFileDurably(folder + "/seed-" + name, bytes, 0644,
                                         IfExists::kReplace);
    Require(status.has_value(), "the seed can be written");
  }
  void Put(const std::string& target, const std::string& name,
           const std::string& text) {
    Put(target, name, AsBytes(text));
  }

 private:
  std::string folder_;
};

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

void Piece(Bytes& out, uint16_t lba, uint16_t at, const Bytes& data) {
  ByteWriter writer(out);
  writer.U16(lba);
  writer.U16(at);
  writer.U16(static_cast<uint16_t>(data.size()));
  writer.Bytes(data);
}

Bytes MbrEntry(uint8_t type, uint32_t first, uint32_t count) {
  Bytes entry;
  ByteWriter out(entry);
  out.U32(0);
  out.U8(type);
  out.Zeroes(3);
  out.U32(first);
  out.U32(count);
  return entry;
}

Bytes GptPrimary(uint64_t sectors) {
  Bytes header;
  ByteWriter out(header);
  out.Bytes(AsBytes("EFI PART"));
  out.U32(0x10000);
  out.U32(92);
  out.U64(0);  // checksum, reserved
  out.U64(1);
  out.U64(sectors - 1);
  out.U64(4);            // first usable
  out.U64(sectors - 4);  // last usable
  out.U64(0x1111);
  out.U64(0x2222);
  out.U64(2);    // entries
  out.U32(4);    // of them
  out.U32(128);  // bytes each
  out.U32(0);
  return header;
}

Bytes GptEntry(uint64_t first, uint64_t last) {
  Bytes entry;
  ByteWriter out(entry);
  out.U64(0xc12a7328);
  out.U64(0x3bc93ec9);
  out.U64(first);
  out.U64(first);
  out.U64(first);
  out.U64(last);
  out.U64(0);
  for (const char16_t unit : u"Esp \u00e9\u20ac") out.U16(unit);
  out.PadTo(128);
  return entry;
}

void PutTables(Seeds& seeds) {
  constexpr uint16_t kSectors = 200;
  const Bytes signature = {std::byte{0x55}, std::byte{0xaa}};
  const auto begin = [&](uint8_t flags) {
    Bytes disk;
    ByteWriter out(disk);
    out.U8(flags);
    out.U16(kSectors);
    Piece(disk, 0, 510, signature);
    return disk;
  };
  Bytes mbr = begin(0);
  Piece(mbr, 0, 446, MbrEntry(0x83, 8, 20));
  Piece(mbr, 0, 462, MbrEntry(0x05, 40, 100));
  Piece(mbr, 40, 510, signature);
  Piece(mbr, 40, 446, MbrEntry(0x83, 4, 10));
  Piece(mbr, 40, 462, MbrEntry(0x05, 50, 20));
  Piece(mbr, 90, 510, signature);
  Piece(mbr, 90, 446, MbrEntry(0x82, 2, 10));
  seeds.Put("partition_table", "mbr", mbr);
  Bytes gpt = begin(3);
  Piece(gpt, 0, 446, MbrEntry(0xee, 1, kSectors - 1));
  Piece(gpt, 1, 0, GptPrimary(kSectors));
  Piece(gpt, 2, 0, GptEntry(10, 20));
  Piece(gpt, 2, 128, GptEntry(21, 60));
  seeds.Put("partition_table", "gpt", gpt);
  seeds.Put("partition_table", "none", begin(0));
}

// A FAT's first sector, and the start of its table.
Bytes FatHead(uint16_t kib, uint8_t per_cluster, uint16_t fat_sectors) {
  Bytes head;
  ByteWriter out(head);
  out.U16(kib);
  out.Zeroes(11);
  out.U16(512);
  out.U8(per_cluster);
  out.U16(1);   // reserved
  out.U8(2);    // copies
  out.U16(16);  // root entries
  out.U16(static_cast<uint16_t>(kib * 2));
  out.U8(0xf8);
  out.U16(fat_sectors);
  out.PadTo(2 + 510);
  out.U16(0xaa55);
  for (int i = 0; i < 12; ++i) out.U32(i % 3 == 0 ? 0 : 0x0fff'ffff);
  return head;
}

void PutFileSystems(Seeds& seeds) {
  seeds.Put("fat", "fat12", FatHead(1000, 1, 6));
  seeds.Put("fat", "fat16", FatHead(8000, 1, 63));
  Bytes fat32 = FatHead(40000, 1, 0);
  StoreLe<uint32_t>(std::span(fat32).subspan<2 + 32, 4>(), 80000);
  StoreLe<uint16_t>(std::span(fat32).subspan<2 + 19, 2>(), 0);
  StoreLe<uint32_t>(std::span(fat32).subspan<2 + 36, 4>(), 640);
  seeds.Put("fat", "fat32", fat32);
  seeds.Put("ext", "untouched", Bytes(1));
  for (const uint32_t at : {0x400U, 0x438U, 0x800U, 0xc00U, 0x1400U, 0x2000U}) {
    Bytes edit;
    ByteWriter out(edit);
    out.U8(static_cast<uint8_t>(at));
    out.U16(static_cast<uint16_t>(at >> 8));
    out.U8(2);
    out.U16(0x1234);
    seeds.Put("ext", "edit-" + std::to_string(at), edit);
  }
}

Bytes NbdRequestBytes(NbdCommand command, uint64_t offset, uint32_t length,
                      uint16_t flags = 0) {
  Bytes out;
  AppendBe(out, kNbdRequestMagic);
  AppendBe(out, flags);
  AppendBe(out, static_cast<uint16_t>(command));
  AppendBe<uint64_t>(out, 77);
  AppendBe(out, offset);
  AppendBe(out, length);
  return out;
}

Bytes NbdOptionBytes(NbdOption option, const Bytes& data) {
  Bytes out;
  AppendBe(out, kNbdOptionMagic);
  AppendBe(out, static_cast<uint32_t>(option));
  AppendBe(out, static_cast<uint32_t>(data.size()));
  Append(out, data);
  return out;
}

Bytes NbdInfoBytes() {
  Bytes info;
  AppendBe<uint32_t>(info, 4);
  Append(info, AsBytes("disk"));
  AppendBe<uint16_t>(info, 1);
  AppendBe<uint16_t>(info, 3);
  return info;
}

void PutNbd(Seeds& seeds) {
  Bytes transmission(1);
  Append(transmission, NbdRequestBytes(NbdCommand::kRead, 4096, 8192));
  Append(transmission, NbdRequestBytes(NbdCommand::kWrite, 100, 16, 1));
  Append(transmission, Bytes(16));
  Append(transmission, NbdRequestBytes(NbdCommand::kFlush, 0, 0));
  Append(transmission, NbdRequestBytes(NbdCommand::kTrim, 0, 4096));
  Append(transmission, NbdRequestBytes(NbdCommand::kWriteZeroes, 0, 4096, 3));
  Append(transmission, NbdRequestBytes(NbdCommand::kWrite, 1 << 30, 8));
  Append(transmission, Bytes(8));
  Append(transmission, NbdRequestBytes(NbdCommand::kDisconnect, 0, 0));
  seeds.Put("nbd_session", "transmission", transmission);
  Bytes handshake(1, std::byte{1});
  AppendBe<uint32_t>(handshake, 3);
  Append(handshake, NbdOptionBytes(NbdOption::kStructuredReply, {}));
  Append(handshake, NbdOptionBytes(NbdOption::kList, {}));
  Append(handshake, NbdOptionBytes(NbdOption::kInfo, NbdInfoBytes()));
  Append(handshake, NbdOptionBytes(NbdOption::kGo, NbdInfoBytes()));
  Append(handshake, NbdRequestBytes(NbdCommand::kRead, 0, 512));
  seeds.Put("nbd_session", "handshake", handshake);
  Bytes old(1, std::byte{3});
  AppendBe<uint32_t>(old, 1);
  Append(old, NbdOptionBytes(NbdOption::kExportName, Bytes()));
  Append(old, NbdRequestBytes(NbdCommand::kWrite, 0, 4));
  seeds.Put("nbd_session", "read-only", old);
  for (const auto& [name, bytes] :
       {std::pair<std::string, Bytes>{"info", NbdInfoBytes()},
        {"option", NbdOptionBytes(NbdOption::kGo, {})},
        {"request", NbdRequestBytes(NbdCommand::kRead, 4096, 512)}}) {
    Bytes seed;
    ByteWriter out(seed);
    out.U64(1 << 20);
    out.U8(0);
    out.Bytes(bytes);
    seeds.Put("nbd_protocol", name, seed);
  }
}

void PutTexts(Seeds& seeds) {
  seeds.Put("kept_backfill", "paused",
            std::string("{\"paused\":true,\"limit\":1000000}"));
  seeds.Put("control_request", "few",
            std::string("{\"command\":\"status\"}\n{\"command\":\"backfill\","
                        "\"action\":\"pause\"}\n{\"command\":\"wait\",\"for\":"
                        "\"x\"}\n[1]\n"));
  seeds.Put("control_request", "deep",
            "{\"command\":\"x\",\"action\":" + std::string(200, '[') +
                std::string(200, ']') + "}\n");
  seeds.Put("control_reply", "good",
            std::string("{\"ok\":true,\"phase\":\"streaming\"}\n"
                        "{\"ok\":false,\"error\":\"no\"}\n{\"ok\":true}\n"));
  seeds.Put("control_reply", "odd",
            std::string("{\"ok\":\"yes\"}\n{\"ok\":false,\"error\":1}\n"));
  const std::string hex(64, 'a');
  seeds.Put(
      "plan_json", "plan",
      "{\"bootstream_plan\":1,\"disk\":\"/dev/sda\",\"image\":\"debian\","
      "\"version\":\"13.2\",\"disk_size_bytes\":1048576,\"source_partition"
      "\":2,\"when_full\":\"block\",\"servers\":[\"http://a/\"],"
      "\"manifest_digest\":\"" +
          hex + "\",\"source_table_id\":\"" + std::string(32, '0') +
          "\",\"serial_sha256\":\"" + hex + "\"}");
  seeds.Put("server_config", "some",
            std::string("{\"threads\":2,\"connections_max\":10,"
                        "\"header_bytes_max\":4096}"));
  BootTrace trace{1 << 24, "uefi", {{0, 0, 512}, {1, 4096, 8192}}};
  const auto places = AnchorCandidates(trace.disk_bytes);
  for (const size_t which : {0, 1, 0}) {
    trace.reads.push_back({5, places[which], kAnchorBytes});
  }
  trace.reads.push_back({9, 1 << 20, 4096});
  seeds.Put("boot_trace", "boot", FormatTrace(trace));
}

void PutHttp(Seeds& seeds) {
  const auto request = [&](const std::string& name, const std::string& text) {
    seeds.Put("http_request", name, "\x40\x10" + text);
  };
  const std::string get =
      "GET /packs/ab/ab" + std::string(62, '0') + "?x HTTP/1.1\r\nHost: h\r\n";
  request("plain", get + "\r\n");
  request("range", get + "Range: bytes=5-9\r\nIf-Range: \"5-2ebd1f\"\r\n\r\n");
  request("suffix", get + "Range: bytes=-9\r\nConnection: close\r\n\r\n");
  request("conditions",
          get +
              "If-Match: \"a\", \"5-2ebd1f\"\r\nIf-None-Match: W/\"b\"\r\n"
              "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
              "If-Unmodified-Since: Sunday, 06-Nov-94 08:49:37 GMT\r\n\r\n");
  request("absolute",
          "HEAD http://h/images/debian/13.2/manifest HTTP/1.0\r\n"
          "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n");
  request("path", "/images/debian%2d13/latest");
  request("date", "Sun Nov  6 08:49:37 1994");
  const std::string body(42, 'b');
  const std::string good =
      "HTTP/1.1 206 Partial Content\r\nContent-Length: 42\r\n"
      "Content-Range: bytes 10-51/60\r\n\r\n" +
      body;
  seeds.Put("http_reply", "part", good);
  seeds.Put(
      "http_reply", "whole",
      "HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\n" + std::string(60, 'w'));
  seeds.Put("http_reply", "chunked",
            "HTTP/1.1 206 Partial Content\r\nTransfer-Encoding: chunked\r\n"
            "Content-Range: bytes 10-51/*\r\n\r\n2a\r\n" +
                body + "\r\n0\r\n\r\n");
  seeds.Put("http_reply", "moved",
            "HTTP/1.1 302 Found\r\nLocation: /other\r\nContent-Length: 0\r\n"
            "\r\n" +
                std::string(1, '\0') + good);
  seeds.Put("http_reply", "wrong-range",
            std::string("HTTP/1.1 206 P\r\nContent-Length: 42\r\nContent-Range"
                        ": bytes 0-41/60\xff\r\n\r\n"));
  for (const char* target : {"http_reply", "http_file"}) {
    seeds.Put(target, "error",
              std::string("HTTP/1.1 503 Busy\r\nRetry-After: 1\r\n\r\n"));
  }
  seeds.Put("http_file", "whole",
            std::string("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde"));
  seeds.Put("http_file", "chunked",
            std::string("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                        "3\r\nabc\r\n0\r\n\r\n"));
  seeds.Put("http_file", "encoded",
            std::string("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n"
                        "Content-Length: 2\r\n\r\nab"));
  seeds.Put("http_file", "moved",
            std::string("HTTP/1.1 301 M\r\nLocation: /b\r\n"
                        "Content-Length: 0\r\n\r\n") +
                std::string(1, '\0') +
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx");
}

void PutFirmware(Seeds& seeds) {
  Bytes option;
  ByteWriter out(option);
  out.U32(7);  // attributes
  out.U32(1);
  out.U16(46);
  for (const char16_t unit : u"disk") out.U16(unit);
  out.U8(4);
  out.U8(1);
  out.U16(42);
  out.Zeroes(20);
  for (int i = 0; i < 16; ++i) out.U8(0x22);
  out.U16(0x0202);
  out.U32(0x0004ff7f);
  Bytes variables;
  ByteWriter all(variables);
  all.U16(static_cast<uint16_t>(option.size()));
  all.Bytes(option);
  all.U16(0);
  all.U16(6);
  all.U32(7);
  all.U16(0);
  seeds.Put("efi_boot", "entry", variables);
  all.U16(0);
  all.U32(7);
  all.U16(2);
  all.U16(0);
  all.U16(5);
  all.U16(static_cast<uint16_t>(option.size() - 4));
  all.Bytes(std::span(option).subspan(4));
  seeds.Put("efi_boot", "saved", variables);
}

}  // namespace
}  // namespace bootstream

int main(int argc, char** argv) {
  bootstream::Require(argc == 2, "usage: fuzz_seeds FOLDER");
  bootstream::Seeds seeds(argv[1]);
  bootstream::PutImages(seeds);
  bootstream::PutMap(seeds);
  bootstream::PutTables(seeds);
  bootstream::PutFileSystems(seeds);
  bootstream::PutNbd(seeds);
  bootstream::PutTexts(seeds);
  bootstream::PutHttp(seeds);
  bootstream::PutFirmware(seeds);
  return 0;
}
