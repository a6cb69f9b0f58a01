#include "tests/crash/scene.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "blockmap/base/aligned_buffer.h"
#include "blockmap/disk/mover.h"
#include "blockmap/image/image_facts.h"
#include "tests/crash/scratch_disk.h"
#include "tests/support/fake_image.h"

namespace bootstream {
namespace {

constexpr uint64_t kChunk = Scene::kChunk;
constexpr uint64_t kImageBytes = 24 * kChunk - uint64_t{5} * kBlockBytes;
constexpr uint64_t kDiskChunks = 112;

void Must(const Status& status) {
  if (status) return;
  std::fprintf(stderr, "scene: %s\n", status.error().message.c_str());
  std::abort();
}

// An MBR's signature and disk id, so that anchors know the disk by them.
void MarkAsMbr(std::vector<std::byte>& disk, std::byte id) {
  disk[510] = std::byte{0x55};
  disk[511] = std::byte{0xaa};
  for (size_t at = 440; at < 444; ++at) disk[at] = id;
}

std::array<std::byte, 16> TableId(std::byte id) {
  std::array<std::byte, 16> bytes{};
  std::fill_n(bytes.begin(), 4, id);
  return bytes;
}

Superblock FirstSuperblock(const Scene& scene) {
  Superblock superblock;
  superblock.chunk_bytes = kChunk;
  superblock.migration_id.fill(std::byte{7});
  superblock.disk.size_bytes = scene.source.size();
  superblock.disk.table_type = TableType::kMbr;
  superblock.disk.source_table_id = TableId(std::byte{1});
  superblock.phase = Phase::kArmed;
  superblock.image_bytes = scene.image.size();
  superblock.manifest_digest = scene.manifest->digest();
  superblock.manifest_bytes = scene.manifest_file.size();
  superblock.target_table_id = TableId(std::byte{2});
  superblock.image_name = "new";
  return superblock;
}

Task<Status> BringBootSetHome(BlockDevice& disk, MapStore& store,
                              const Scene& scene) {
  for (const ChunkExtent& run : scene.manifest->content().boot_set) {
    for (uint64_t c = run.first; c < run.first + run.count; ++c) {
      const DiskChunk home{c};
      const std::span<const DiskChunk> source(&home, 1);
      if (auto s = co_await Relocate(disk, store, source); !s) co_return s;
      AlignedBuffer content(kChunk);
      std::memcpy(content.data(), scene.image.data() + c * kChunk, kChunk);
      auto s = co_await disk.Write(c * kChunk, content.span());
      if (!s) co_return s;
      store.SetChunk(ImageChunk{c},
                     {Location::At(home), store.disk_grid().full_mask(c), 0});
    }
  }
  co_return co_await store.Commit();
}

Task<Status> PutAnchor(BlockDevice& disk, MapStore& store) {
  const uint64_t offset = AnchorCandidates(disk.size_bytes())[0];
  const DiskChunk chunk{offset / kChunk};
  const std::span<const DiskChunk> source(&chunk, 1);
  if (auto s = co_await Relocate(disk, store, source); !s) co_return s;
  co_return co_await store.WriteAnchor(offset);
}

}  // namespace

Scene MakeSmallScene(const SmallSceneOptions& options) {
  Scene scene;
  scene.region = options.region;
  scene.image = RandomBytes(kImageBytes, options.seed);
  std::memset(scene.image.data() + 8 * kChunk, 0, 2 * kChunk);
  MarkAsMbr(scene.image, std::byte{2});
  scene.source = RandomBytes(kDiskChunks * kChunk, options.seed + 1);
  MarkAsMbr(scene.source, std::byte{1});
  ManifestContent content = DescribeImage(scene.image, kChunk);
  content.name = "new";
  content.boot_set = {{0, 1}, {2, 1}};
  content.pinned = {{4, 3}};
  scene.manifest = std::make_shared<const Manifest>(
      SignAndOpen(content, &scene.manifest_file));

  ScratchDisk disk(scene.source);
  MapStore::CreateOptions create;
  create.superblock = FirstSuperblock(scene);
  create.region = scene.region;
  create.manifest_file = scene.manifest_file;
  create.image = FactsOf(scene.manifest);
  create.journal_chunks = options.journal_chunks;
  create.spare_chunks = 2;
  for (const DiskExtent& extent : scene.region) {
    for (uint64_t c = extent.first; c < extent.end(); ++c) {
      create.superblock_order.push_back(DiskChunk{c});
    }
  }
  auto store = RunInline(MapStore::Create(disk, std::move(create)));
  if (!store) Must(store.error());
  Must(RunInline(BringBootSetHome(disk, **store, scene)));
  Must(RunInline(PutAnchor(disk, **store)));
  scene.SetDisk(disk.bytes());
  return scene;
}

void Scene::SetDisk(std::span<const std::byte> bytes) {
  disk.assign(bytes.begin(), bytes.end());
  differs.clear();
  for (uint64_t at = 0; at < disk.size(); at += kChunk) {
    const auto size = std::min<uint64_t>(kChunk, disk.size() - at);
    differs.push_back(std::memcmp(disk.data() + at, source.data() + at, size) !=
                      0);
  }
}

}  // namespace bootstream
