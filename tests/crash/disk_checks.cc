#include "tests/crash/disk_checks.h"

#include <algorithm>
#include <cstring>
#include <map>

namespace bootstream {
namespace {

constexpr uint32_t kChunk = Scene::kChunk;

std::string Numbered(const char* what, uint64_t number) {
  return what + std::to_string(number);
}

bool SameChunk(DiskBytes a, uint64_t in_a, DiskBytes b, uint64_t in_b) {
  const size_t size = std::min<size_t>(
      {kChunk, a.size() - in_a * kChunk, b.size() - in_b * kChunk});
  return std::memcmp(a.data() + in_a * kChunk, b.data() + in_b * kChunk,
                     size) == 0;
}

// It was the source's at first and nobody has written to it.
bool IsUntouched(const Scene& scene, uint64_t chunk, const ScratchDisk& disk) {
  const uint64_t at = chunk * kChunk;
  return !scene.differs[chunk] &&
         !disk.WasWritten(at,
                          std::min<uint64_t>(kChunk, disk.size_bytes() - at));
}

}  // namespace

bool InRegion(const Scene& scene, uint64_t chunk) {
  return std::ranges::any_of(scene.region, [chunk](const DiskExtent& e) {
    return chunk >= e.first && chunk < e.end();
  });
}

std::string CheckSourceChunks(const Scene& scene, const MapStore& store,
                              const ScratchDisk& disk) {
  for (uint64_t c = 0; c * kChunk < disk.size_bytes(); ++c) {
    if (InRegion(scene, c)) continue;
    const auto now = store.map().Relocated(DiskChunk{c});
    if (!now && IsUntouched(scene, c, disk)) continue;
    if (!SameChunk(scene.source, c, disk.bytes(), now ? now->value : c)) {
      return Numbered("source chunk ", c) +
             (now ? Numbered(" is not in its copy in ", now->value)
                  : " is not in its place");
    }
  }
  return "";
}

std::string CheckSourceInPlace(const Scene& scene, const ScratchDisk& disk) {
  for (uint64_t c = 0; c * kChunk < disk.size_bytes(); ++c) {
    if (InRegion(scene, c) || IsUntouched(scene, c, disk)) continue;
    if (!SameChunk(scene.source, c, disk.bytes(), c)) {
      return Numbered("the source may start, but its chunk ", c) +
             " is not in its place";
    }
  }
  return "";
}

std::string CheckCleanBlocks(const Scene& scene, const MapStore& store,
                             DiskBytes disk) {
  std::string wrong;
  store.map().ForEach([&](ImageChunk chunk, const ChunkState& state) {
    if (!wrong.empty() || !state.location.on_disk()) return;
    const uint64_t clean = state.valid & ~state.dirty;
    for (uint64_t block = 0; clean >> block != 0 && block < 64; ++block) {
      if ((clean >> block & 1) == 0) continue;
      const uint64_t inside = block * kBlockBytes;
      const uint64_t in_image = chunk.value * kChunk + inside;
      const uint64_t on_disk = state.location.chunk().value * kChunk + inside;
      if (std::memcmp(scene.image.data() + in_image, disk.data() + on_disk,
                      kBlockBytes) != 0) {
        wrong = Numbered("clean block ", block) +
                Numbered(" of image chunk ", chunk.value) +
                " is not the image's";
        return;
      }
    }
  });
  return wrong;
}

std::string CheckOccupancy(const MapStore& store) {
  std::map<uint64_t, std::string> users;
  std::string wrong;
  const auto add = [&](DiskChunk chunk, std::string user, ChunkUse use) {
    const auto [place, fresh] = users.emplace(chunk.value, user);
    if (!fresh) {
      wrong = Numbered("disk chunk ", chunk.value) +
              " has two users: " + place->second + " and " + user;
    }
    if (!store.region().IsOurs(chunk)) {
      wrong = user + Numbered(" is in disk chunk ", chunk.value) +
              ", which is not ours";
    } else if (store.region().OccupantOf(chunk).use != use) {
      wrong = user + Numbered(" is in disk chunk ", chunk.value) +
              ", which the region has as another's";
    }
  };
  for (const auto& [source, now] : store.map().relocations()) {
    add(now, Numbered("source chunk ", source.value), ChunkUse::kSource);
  }
  store.map().ForEach([&](ImageChunk chunk, const ChunkState& state) {
    if (!state.location.on_disk()) return;
    add(state.location.chunk(), Numbered("image chunk ", chunk.value),
        ChunkUse::kImage);
  });
  const Superblock& superblock = store.superblock();
  for (const DiskChunk chunk : superblock.superblock_chunks) {
    add(chunk, "a superblock", ChunkUse::kMetadata);
  }
  add(superblock.manifest_chunk, "the manifest", ChunkUse::kMetadata);
  add(superblock.checkpoint_chunk, "the checkpoint", ChunkUse::kMetadata);
  add(superblock.journal_chunk, "the journal", ChunkUse::kMetadata);
  if (superblock.anchor_offset != kNone) {
    add(DiskChunk{superblock.anchor_offset / superblock.chunk_bytes},
        "the anchor", ChunkUse::kMetadata);
  }
  return wrong;
}

std::string CheckPinnedHome(const Scene& scene, const MapStore& store) {
  std::string wrong;
  store.map().ForEach([&](ImageChunk chunk, const ChunkState& state) {
    if (!scene.manifest->IsPinned(chunk) || state.dirty == 0) return;
    if (state.location == Location::At(HomeOf(chunk))) return;
    wrong = Numbered("pinned image chunk ", chunk.value) +
            " was written to and is not at home";
  });
  return wrong;
}

std::string CheckBootSetHome(const Scene& scene, const TargetModel& model,
                             DiskBytes disk, const Cut& cut) {
  for (const ChunkExtent& run : scene.manifest->content().boot_set) {
    const uint64_t at = run.first * kChunk;
    const uint64_t size =
        std::min<uint64_t>(run.count * kChunk, scene.image.size() - at);
    auto wrong = model.Check(at, disk.subspan(at, size), cut.clock, cut.torn);
    if (!wrong.empty()) return "at home, raw: " + wrong;
  }
  return "";
}

}  // namespace bootstream
