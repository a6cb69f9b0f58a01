#ifndef TESTS_SUPPORT_MAP_FIXTURE_H_
#define TESTS_SUPPORT_MAP_FIXTURE_H_

#include <cstdint>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "blockmap/map/map_store.h"

namespace bootstream {

// A small disk for map tests: 64 KiB chunks, an image of 96 chunks (every
// fourth one zero, the first eight kept, the last one short), a region of the
// chunks 40 to 139 and 150 to 169 and a source everywhere else.
struct MapFixture {
  static constexpr uint64_t kChunk = uint64_t{64} << 10;
  static constexpr uint64_t kDiskChunks = 180;
  static constexpr uint64_t kImageChunks = 96;
  static constexpr uint64_t kDiskBytes = kDiskChunks * kChunk + 4096;
  static constexpr uint64_t kKept = 8;

  static ImageFacts Facts() {
    ImageFacts facts;
    facts.grid =
        Grid{kChunk, (kImageChunks - 1) * kChunk + uint64_t{5} * kBlockBytes};
    facts.is_zero = [](ImageChunk chunk) { return chunk.value % 4 == 3; };
    facts.is_kept = [](ImageChunk chunk) { return chunk.value < kKept; };
    return facts;
  }
  static std::vector<DiskExtent> RegionExtents() {
    return {{40, 100}, {150, 20}};
  }
  static MapStore::CreateOptions Options(uint32_t journal_chunks = 1) {
    MapStore::CreateOptions options;
    Superblock& sb = options.superblock;
    sb.chunk_bytes = kChunk;
    sb.disk.size_bytes = kDiskBytes;
    sb.disk.table_type = TableType::kGpt;
    sb.migration_id.fill(std::byte{0x42});
    sb.image_name = "debian";
    sb.server_urls = {"http://images.example/"};
    options.region = RegionExtents();
    options.manifest_file.assign(100'000, std::byte{0x5a});
    options.image = Facts();
    options.journal_chunks = journal_chunks;
    options.spare_chunks = 4;
    for (const DiskExtent& extent : options.region) {
      for (uint64_t i = extent.first; i < extent.end(); ++i) {
        options.superblock_order.push_back(DiskChunk{i});
      }
    }
    return options;
  }
  // The region first; where the source has been given up, anywhere.
  static std::vector<DiskChunk> ScanOrder() {
    std::vector<DiskChunk> order = Options().superblock_order;
    const std::set<DiskChunk> region(order.begin(), order.end());
    for (DiskChunk chunk; chunk.value < kDiskChunks; ++chunk.value) {
      if (!region.contains(chunk)) order.push_back(chunk);
    }
    return order;
  }
  static Uuid Id() { return Options().superblock.migration_id; }

  // A new map on `device`.
  static std::unique_ptr<MapStore> Create(BlockDevice& device,
                                          uint32_t journal_chunks = 1) {
    auto store = RunInline(MapStore::Create(device, Options(journal_chunks)));
    return store ? std::move(*store) : nullptr;
  }
  // Whatever is on `device`, found as the agent finds it.
  static Result<std::unique_ptr<MapStore>> Open(
      BlockDevice& device, bool read_only = false,
      std::unique_ptr<KeptChanges> kept = nullptr) {
    const std::vector<DiskChunk> order = ScanOrder();
    const auto sb =
        RunInline(MapStore::ScanForSuperblock(device, kChunk, Id(), order));
    if (!sb) return sb.error();
    return RunInline(
        MapStore::Open(device, *sb, Facts(), read_only, std::move(kept)));
  }
};

// The content of a map as text, to compare and to print.
inline std::string Describe(const BlockMap& map) {
  std::string text;
  const auto add = [&text](uint64_t number) {
    text += std::to_string(number) + ' ';
  };
  map.ForEach([&](ImageChunk chunk, const ChunkState& state) {
    text += "\nset ";
    add(chunk.value);
    add(state.location.raw());
    add(state.valid);
    add(state.dirty);
  });
  for (const auto& [source, now] : map.relocations()) {
    text += "\nrelocated ";
    add(source.value);
    add(now.value);
  }
  map.ForEachPatch([&](ImageChunk chunk, const Patch& patch) {
    text += "\npatch ";
    add(chunk.value);
    add(patch.offset);
    for (const std::byte byte : patch.data) add(static_cast<uint8_t>(byte));
  });
  return text;
}

}  // namespace bootstream

#endif  // TESTS_SUPPORT_MAP_FIXTURE_H_
