#include "blockmap/base/coding.h"
#include "blockmap/map/superblock.h"
#include "blockmap/nbd/big_endian.h"
#include "blockmap/nbd/nbd_protocol.h"
#include "imgserver/boot_trace.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/seeds/seeds.h"

namespace bootstream {
namespace {

using Bytes = std::vector<std::byte>;

void Append(Bytes& out, std::span<const std::byte> more) {
  out.insert(out.end(), more.begin(), more.end());
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

}  // namespace

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

}  // namespace bootstream
