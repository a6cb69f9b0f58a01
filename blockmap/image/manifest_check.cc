#include "blockmap/image/manifest_check.h"

#include <algorithm>

#include "blockmap/image/pack.h"

namespace bootstream {
namespace {

Error Wrong(const std::string& what) {
  return Error{ErrorCode::kCorrupt, "manifest: " + what};
}

std::string Numbered(const char* what, size_t index) {
  return std::string(what) + " " + std::to_string(index);
}

bool InRange(uint64_t first, uint64_t count, uint64_t limit) {
  return count > 0 && first < limit && count <= limit - first;
}

Status CheckIdentity(const ManifestContent& content) {
  if (auto status = CheckImageName(content.name); !status) {
    return Wrong(status.error().message);
  }
  if (auto version = ParseImageVersion(content.version); !version) {
    return Wrong(version.error().message);
  }
  if (content.kernel_command_line.size() > 0xffff) {
    return Wrong("the kernel command line is too long");
  }
  if (content.base_urls.size() > kBaseUrlsMax) return Wrong("too many URLs");
  for (const auto& url : content.base_urls) {
    if (url.empty() || url.size() > 0xffff) return Wrong("unusable URL");
  }
  return OkStatus();
}

Status CheckSizes(const ManifestContent& content) {
  const uint32_t chunk = content.chunk_bytes;
  if (chunk < kChunkBytesMin || chunk > kChunkBytesMax ||
      (chunk & (chunk - 1)) != 0) {
    return Wrong("chunk size " + std::to_string(chunk));
  }
  if (content.image_bytes == 0 || content.image_bytes % kBlockBytes != 0 ||
      content.image_bytes > kImageBytesMax) {
    return Wrong("image size " + std::to_string(content.image_bytes));
  }
  return OkStatus();
}

Status CheckChunks(const ManifestContent& content) {
  for (size_t i = 0; i < content.packs.size(); ++i) {
    if (content.packs[i].size_bytes == 0) {
      return Wrong(Numbered("pack", i) + " is empty");
    }
  }
  for (size_t i = 0; i < content.chunks.size(); ++i) {
    const ChunkEntry& entry = content.chunks[i];
    if (entry.pack >= content.packs.size() || entry.packed_bytes == 0 ||
        entry.packed_bytes > FrameBytesMax(content.chunk_bytes) ||
        !InRange(entry.pack_offset, entry.packed_bytes,
                 content.packs[entry.pack].size_bytes)) {
      return Wrong(Numbered("chunk entry", i) + " lies in no pack");
    }
  }
  return OkStatus();
}

Status CheckRuns(const ManifestContent& content, uint64_t chunk_count) {
  uint64_t entry = 0;
  uint64_t free_from = 0;  // the first chunk that may begin the next run
  for (size_t i = 0; i < content.runs.size(); ++i) {
    const ChunkRun& run = content.runs[i];
    if (!InRange(run.first, run.count, chunk_count) || run.first < free_from) {
      return Wrong(Numbered("run", i) + " is out of range or order");
    }
    if (run.entry != entry || run.count > content.chunks.size() - entry) {
      return Wrong(Numbered("run", i) + " does not match the chunk entries");
    }
    entry += run.count;
    free_from = run.first + run.count + 1;
  }
  if (entry != content.chunks.size()) return Wrong("entries without a run");
  return OkStatus();
}

// REQUIRES: sorted.
Status CheckExtents(const std::vector<ChunkExtent>& extents,
                    uint64_t chunk_count, const char* what) {
  uint64_t free_from = 0;
  for (const ChunkExtent& extent : extents) {
    if (!InRange(extent.first, extent.count, chunk_count) ||
        extent.first < free_from) {
      return Wrong(std::string(what) + ": chunk " +
                   std::to_string(extent.first) + " is out of range or order");
    }
    free_from = extent.first + extent.count;
  }
  return OkStatus();
}

// The first chunk from `chunk` up to `end` that is in none of `extents`, which
// are ascending; `end` if all are.
uint64_t FirstMissing(const std::vector<ChunkExtent>& extents, uint64_t chunk,
                      uint64_t end) {
  for (const ChunkExtent& extent : extents) {
    if (chunk >= end || extent.first > chunk) break;
    chunk = std::max(chunk, extent.first + extent.count);
  }
  return std::min(chunk, end);
}

Status CheckTables(const ManifestContent& content,
                   const std::vector<ChunkExtent>& boot_by_address) {
  if (content.tables.empty() ||
      content.tables.back() != ByteExtent{0, kSectorBytes}) {
    return Wrong("the tables do not end with sector 0");
  }
  for (const ByteExtent& table : content.tables) {
    if (table.offset % kSectorBytes != 0 || table.size % kSectorBytes != 0 ||
        !InRange(table.offset, table.size, content.image_bytes)) {
      return Wrong("table at byte " + std::to_string(table.offset));
    }
    const uint64_t end = (table.end() - 1) / content.chunk_bytes + 1;
    const uint64_t missing =
        FirstMissing(boot_by_address, table.offset / content.chunk_bytes, end);
    if (missing != end) {
      return Wrong("the boot set lacks chunk " + std::to_string(missing) +
                   ", which holds a partition table");
    }
  }
  return OkStatus();
}

Status CheckPrefetch(const ManifestContent& content, uint64_t chunk_count) {
  for (size_t i = 0; i < content.prefetch.size(); ++i) {
    const PrefetchEntry& entry = content.prefetch[i];
    if (!InRange(entry.first, entry.count, chunk_count)) {
      return Wrong(Numbered("prefetch entry", i) + " is out of range");
    }
  }
  return OkStatus();
}

}  // namespace

Status CheckContent(const ManifestContent& content) {
  if (auto status = CheckSizes(content); !status) return status;
  if (auto status = CheckIdentity(content); !status) return status;
  const Grid grid{content.chunk_bytes, content.image_bytes};
  const uint64_t chunk_count = grid.chunk_count();
  const auto boot = ByAddress(content.boot_set);
  if (auto status = CheckChunks(content); !status) return status;
  if (auto status = CheckRuns(content, chunk_count); !status) return status;
  if (auto status = CheckExtents(boot, chunk_count, "boot set"); !status) {
    return status;
  }
  if (auto status = CheckExtents(content.pinned, chunk_count, "pinned");
      !status) {
    return status;
  }
  if (auto status = CheckTables(content, boot); !status) return status;
  return CheckPrefetch(content, chunk_count);
}

std::vector<ChunkExtent> ByAddress(std::vector<ChunkExtent> extents) {
  std::sort(extents.begin(), extents.end(),
            [](const ChunkExtent& a, const ChunkExtent& b) {
              return a.first < b.first;
            });
  return extents;
}

bool Holds(const std::vector<ChunkExtent>& extents, uint64_t chunk) {
  const auto after = std::upper_bound(
      extents.begin(), extents.end(), chunk,
      [](uint64_t value, const ChunkExtent& e) { return value < e.first; });
  if (after == extents.begin()) return false;
  const ChunkExtent& extent = *std::prev(after);
  return chunk - extent.first < extent.count;
}

}  // namespace bootstream
