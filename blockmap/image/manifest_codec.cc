#include "blockmap/image/manifest_codec.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <string>

#include "blockmap/base/coding.h"
#include "blockmap/image/manifest_check.h"

namespace bootstream {
namespace {

constexpr std::string_view kMagic = "BSMANIF1";
constexpr std::string_view kTrailerMagic = "BSSIGN01";
constexpr size_t kHeaderBytes = 128;
constexpr size_t kTrailerHeadBytes = 16;
constexpr size_t kSignatureBytes = 72;
constexpr size_t kTableEntryBytes = 24;
constexpr uint32_t kSectionsMax = 64;
constexpr uint32_t kRefuseIfUnknown = 1;
constexpr uint64_t kIgnoreGrow = 1;  // bit of the ignore mask

enum Section : uint32_t {
  kIdentity = 1,
  kPacks,
  kRuns,
  kChunks,
  kBootSet,
  kPinned,
  kTables,
  kPrefetch,
  kTableId,
  kSectionEnd,
};

struct Header {
  uint64_t body_bytes = 0;
  uint32_t section_count = 0;
  uint64_t version = 0;
  uint64_t data_chunk_count = 0;
  uint64_t packed_bytes = 0;
};

Error Wrong(const std::string& what) {
  return Error{ErrorCode::kCorrupt, "manifest: " + what};
}
Error TooNew(const std::string& what) {
  return Error{ErrorCode::kUnsupported,
               "manifest: " + what + "; update this program"};
}

bool TakeMagic(ByteReader& reader, std::string_view magic) {
  const auto bytes = reader.Bytes(magic.size());
  return bytes.size() == magic.size() &&
         std::memcmp(bytes.data(), magic.data(), magic.size()) == 0;
}

void PutMagic(ByteWriter& writer, std::string_view magic) {
  writer.Bytes(std::as_bytes(std::span(magic.data(), magic.size())));
}

uint64_t PackedBytes(const ManifestContent& content) {
  uint64_t sum = 0;  // cannot overflow: 2^31 / 48 entries below 2^32 each
  for (const ChunkEntry& entry : content.chunks) sum += entry.packed_bytes;
  return sum;
}

Result<Header> DecodeHeader(std::span<const std::byte> file,
                            ManifestContent& content) {
  ByteReader reader(file);
  if (!TakeMagic(reader, kMagic)) return Wrong("not a manifest");
  Header header;
  const uint64_t refuse = reader.U64();
  content.grow = (reader.U64() & kIgnoreGrow) != 0;
  reader.Skip(8);  // clear
  header.body_bytes = reader.U64();
  content.image_bytes = reader.U64();
  content.chunk_bytes = reader.U32();
  header.section_count = reader.U32();
  header.version = reader.U64();
  const uint32_t format_min = reader.U32();
  const uint32_t reserved = reader.U32();
  header.data_chunk_count = reader.U64();
  header.packed_bytes = reader.U64();
  const auto rest = reader.Bytes(40);
  if (!reader.ok()) return Wrong("shorter than its header");
  if (refuse != 0) return TooNew("uses features that are not known here");
  if (format_min > kFormatVersion) return TooNew("of a newer format");
  if (reserved != 0 || !AllZero(rest)) return Wrong("reserved fields are set");
  if (header.section_count > kSectionsMax) return Wrong("too many sections");
  return header;
}

using SectionBytes = std::map<uint32_t, std::span<const std::byte>>;

// The sections lie one after the other, with zeroes up to the next multiple of
// 8 between them at most.
Status CheckLayout(std::span<const std::byte> body, size_t table_end,
                   std::vector<ByteExtent> sections) {
  std::sort(sections.begin(), sections.end());
  uint64_t end = table_end;
  for (const ByteExtent& section : sections) {
    if (section.offset % 8 != 0 || section.offset < end ||
        section.offset > body.size() ||
        section.size > body.size() - section.offset) {
      return Wrong("sections overlap or lie outside");
    }
    if (!AllZero(body.subspan(end, section.offset - end))) {
      return Wrong("bytes between sections");
    }
    end = section.end();
  }
  if (!AllZero(body.subspan(end))) return Wrong("bytes after its sections");
  return OkStatus();
}

Result<SectionBytes> DecodeSectionTable(std::span<const std::byte> body,
                                        uint32_t section_count) {
  const size_t table_end = kHeaderBytes + section_count * kTableEntryBytes;
  if (body.size() < table_end) return Wrong("shorter than its section table");
  ByteReader reader(body.subspan(kHeaderBytes));
  std::map<uint32_t, ByteExtent> places;
  std::vector<ByteExtent> extents;
  for (uint32_t i = 0; i < section_count; ++i) {
    const uint32_t type = reader.U32();
    const uint32_t flags = reader.U32();
    ByteExtent extent;
    extent.offset = reader.U64();
    extent.size = reader.U64();
    const bool known = type >= kIdentity && type < kSectionEnd;
    if ((flags & ~kRefuseIfUnknown) != 0 ||
        (!known && (flags & kRefuseIfUnknown) != 0)) {
      return TooNew("has a section of type " + std::to_string(type));
    }
    if (!places.emplace(type, extent).second) {
      return Wrong("section " + std::to_string(type) + " occurs twice");
    }
    extents.push_back(extent);
  }
  if (auto status = CheckLayout(body, table_end, extents); !status) {
    return status.error();
  }
  SectionBytes sections;
  for (const auto& [type, place] : places) {
    sections[type] = body.subspan(place.offset, place.size);
  }
  for (uint32_t type = kIdentity; type < kSectionEnd; ++type) {
    if (type != kPrefetch && !sections.contains(type)) {
      return Wrong("section " + std::to_string(type) + " is missing");
    }
  }
  return sections;
}

Status DecodeIdentity(std::span<const std::byte> bytes, const Header& header,
                      ManifestContent& content) {
  ByteReader reader(bytes);
  content.name = reader.String();
  content.version = reader.String();
  content.kernel_command_line = reader.String();
  const uint16_t url_count = reader.U16();
  for (uint16_t i = 0; i < url_count && reader.ok(); ++i) {
    content.base_urls.push_back(reader.String());
  }
  if (!reader.ok() || reader.remaining() != 0) return Wrong("bad identity");
  const auto version = ParseImageVersion(content.version);
  if (!version || *version != header.version) {
    return Wrong("two different versions");
  }
  return OkStatus();
}

// A section of entries of one size; `read` makes one from a ByteReader.
template <size_t kEntryBytes, typename T, typename Read>
Status DecodeEntries(const SectionBytes& sections, uint32_t type,
                     std::vector<T>& out, Read read) {
  const auto found = sections.find(type);
  if (found == sections.end()) return OkStatus();
  if (found->second.size() % kEntryBytes != 0) {
    return Wrong("section " + std::to_string(type) + " ends inside an entry");
  }
  ByteReader reader(found->second);
  out.reserve(found->second.size() / kEntryBytes);
  while (reader.remaining() > 0) out.push_back(read(reader));
  return OkStatus();
}

ChunkExtent ReadChunkExtent(ByteReader& in) {
  const uint64_t first = in.U64();
  return ChunkExtent{first, in.U64()};
}

Status DecodeSections(const SectionBytes& sections, const Header& header,
                      ManifestContent& out) {
  if (auto s = DecodeIdentity(sections.at(kIdentity), header, out); !s) {
    return s;
  }
  const std::array<Status, 7> statuses = {
      DecodeEntries<40>(sections, kPacks, out.packs,
                        [](ByteReader& in) {
                          const auto digest = in.Array<32>();
                          return PackEntry{digest, in.U64()};
                        }),
      DecodeEntries<24>(sections, kRuns, out.runs,
                        [](ByteReader& in) {
                          const uint64_t first = in.U64();
                          const uint64_t count = in.U64();
                          return ChunkRun{first, count, in.U64()};
                        }),
      DecodeEntries<48>(sections, kChunks, out.chunks,
                        [](ByteReader& in) {
                          const auto digest = in.Array<32>();
                          const uint32_t pack = in.U32();
                          const uint32_t length = in.U32();
                          return ChunkEntry{digest, pack, length, in.U64()};
                        }),
      DecodeEntries<16>(sections, kBootSet, out.boot_set, &ReadChunkExtent),
      DecodeEntries<16>(sections, kPinned, out.pinned, &ReadChunkExtent),
      DecodeEntries<16>(sections, kTables, out.tables,
                        [](ByteReader& in) {
                          const uint64_t offset = in.U64();
                          return ByteExtent{offset, in.U64()};
                        }),
      DecodeEntries<16>(sections, kPrefetch, out.prefetch,
                        [](ByteReader& in) {
                          const uint64_t first = in.U64();
                          const uint32_t count = in.U32();
                          return PrefetchEntry{first, count, in.U32()};
                        }),
  };
  for (const Status& status : statuses) {
    if (!status) return status;
  }
  const auto table_id = sections.at(kTableId);
  if (table_id.size() != out.table_id.size()) return Wrong("bad table id");
  std::copy(table_id.begin(), table_id.end(), out.table_id.begin());
  return OkStatus();
}

void EncodeIdentity(const ManifestContent& content, ByteWriter& out) {
  out.String(content.name);
  out.String(content.version);
  out.String(content.kernel_command_line);
  out.U16(static_cast<uint16_t>(content.base_urls.size()));
  for (const auto& url : content.base_urls) out.String(url);
}

void EncodeExtents(const std::vector<ChunkExtent>& extents, ByteWriter& out) {
  for (const ChunkExtent& extent : extents) {
    out.U64(extent.first);
    out.U64(extent.count);
  }
}

void EncodeSection(uint32_t type, const ManifestContent& content,
                   ByteWriter& out) {
  switch (type) {
    case kIdentity:
      return EncodeIdentity(content, out);
    case kPacks:
      for (const PackEntry& pack : content.packs) {
        out.Bytes(pack.digest);
        out.U64(pack.size_bytes);
      }
      return;
    case kRuns:
      for (const ChunkRun& run : content.runs) {
        out.U64(run.first);
        out.U64(run.count);
        out.U64(run.entry);
      }
      return;
    case kChunks:
      for (const ChunkEntry& entry : content.chunks) {
        out.Bytes(entry.digest);
        out.U32(entry.pack);
        out.U32(entry.packed_bytes);
        out.U64(entry.pack_offset);
      }
      return;
    case kBootSet:
      return EncodeExtents(content.boot_set, out);
    case kPinned:
      return EncodeExtents(content.pinned, out);
    case kTables:
      for (const ByteExtent& table : content.tables) {
        out.U64(table.offset);
        out.U64(table.size);
      }
      return;
    case kPrefetch:
      for (const PrefetchEntry& entry : content.prefetch) {
        out.U64(entry.first);
        out.U32(entry.count);
        out.U32(entry.time_ms);
      }
      return;
    case kTableId:
      return out.Bytes(content.table_id);
    default:
      return;
  }
}

std::vector<std::byte> EncodeHeader(const ManifestContent& content,
                                    uint32_t section_count,
                                    uint64_t body_bytes) {
  std::vector<std::byte> header;
  ByteWriter out(header);
  PutMagic(out, kMagic);
  out.U64(0);  // features: refuse, ignore, clear
  out.U64(content.grow ? kIgnoreGrow : 0);
  out.U64(0);
  out.U64(body_bytes);
  out.U64(content.image_bytes);
  out.U32(content.chunk_bytes);
  out.U32(section_count);
  out.U64(ParseImageVersion(content.version).value_or(0));
  out.U32(kFormatVersion);
  out.U32(0);
  out.U64(content.chunks.size());
  out.U64(PackedBytes(content));
  out.PadTo(kHeaderBytes);
  return header;
}

}  // namespace

Result<ManifestEnvelope> OpenEnvelope(std::span<const std::byte> file) {
  if (file.size() > kManifestBytesMax) return Wrong("too long");
  ManifestContent unused;
  const auto header = DecodeHeader(file, unused);
  if (!header) return header.error();
  if (header->body_bytes < kHeaderBytes || header->body_bytes > file.size()) {
    return Wrong("shorter than it says");
  }
  ManifestEnvelope envelope;
  envelope.body = file.first(header->body_bytes);
  ByteReader reader(file.subspan(header->body_bytes));
  if (!TakeMagic(reader, kTrailerMagic)) return Wrong("no signatures");
  const uint32_t count = reader.U32();
  const uint32_t reserved = reader.U32();
  if (!reader.ok() || count == 0 || count > kSignaturesMax || reserved != 0 ||
      reader.remaining() != count * kSignatureBytes) {
    return Wrong("damaged signatures");
  }
  for (uint32_t i = 0; i < count; ++i) {
    const auto id = reader.Array<8>();
    envelope.signatures.emplace_back(id, reader.Array<64>());
  }
  return envelope;
}

void AppendTrailer(std::span<const std::pair<KeyId, Signature>> signatures,
                   std::vector<std::byte>& file) {
  ByteWriter out(file);
  PutMagic(out, kTrailerMagic);
  out.U32(static_cast<uint32_t>(signatures.size()));
  out.U32(0);
  for (const auto& [id, signature] : signatures) {
    out.Bytes(id);
    out.Bytes(signature);
  }
}

Result<std::vector<std::byte>> EncodeBody(const ManifestContent& content) {
  const uint32_t section_count =
      kSectionEnd - kIdentity - (content.prefetch.empty() ? 1 : 0);
  std::vector<std::byte> table;
  std::vector<std::byte> sections;
  ByteWriter table_out(table);
  ByteWriter sections_out(sections);
  const size_t base = kHeaderBytes + section_count * kTableEntryBytes;
  for (uint32_t type = kIdentity; type < kSectionEnd; ++type) {
    if (type == kPrefetch && content.prefetch.empty()) continue;
    const size_t start = sections.size();
    EncodeSection(type, content, sections_out);
    table_out.U32(type);
    table_out.U32(kRefuseIfUnknown);
    table_out.U64(base + start);
    table_out.U64(sections.size() - start);
    sections_out.PadTo((sections.size() + 7) / 8 * 8);
  }
  const uint64_t body_bytes = base + sections.size();
  if (body_bytes + kTrailerHeadBytes + kSignaturesMax * kSignatureBytes >
      kManifestBytesMax) {
    return Error{ErrorCode::kUnsupported,
                 "manifest: the image has too many chunks; use larger ones"};
  }
  auto body = EncodeHeader(content, section_count, body_bytes);
  body.insert(body.end(), table.begin(), table.end());
  body.insert(body.end(), sections.begin(), sections.end());
  return body;
}

Result<ManifestContent> DecodeBody(std::span<const std::byte> body) {
  ManifestContent content;
  const auto header = DecodeHeader(body, content);
  if (!header) return header.error();
  if (header->body_bytes != body.size()) return Wrong("not its own length");
  const auto sections = DecodeSectionTable(body, header->section_count);
  if (!sections) return sections.error();
  if (auto s = DecodeSections(*sections, *header, content); !s) {
    return s.error();
  }
  if (header->data_chunk_count != content.chunks.size() ||
      header->packed_bytes != PackedBytes(content)) {
    return Wrong("its totals are wrong");
  }
  if (auto s = CheckContent(content); !s) return s.error();
  return content;
}

}  // namespace bootstream
