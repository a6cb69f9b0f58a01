#include "tests/model/small_world.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "blockmap/disk/mover.h"
#include "blockmap/image/image_facts.h"
#include "blockmap/image/manifest.h"
#include "initramfs/driver/engine.h"
#include "tests/model/model_disk.h"
#include "tests/support/fake_chunk_source.h"
#include "tests/support/fake_image.h"
#include "tests/support/test_executor.h"

namespace bootstream {
namespace {

constexpr uint32_t kChunk = SmallDisk::kChunk;

template <typename T>
T Must(Result<T> result) {
  if (!result) {
    std::fprintf(stderr, "small world: %s\n", result.error().message.c_str());
    std::abort();
  }
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

std::vector<Operation> AllOperations() {
  using Kind = Operation::Kind;
  constexpr uint64_t kPinned = 1 * kChunk;
  constexpr uint64_t kZero = 2 * kChunk;
  constexpr uint64_t kPlain = 3 * kChunk;
  constexpr uint64_t kShort = 4 * kChunk;
  constexpr uint64_t kBlock = kBlockBytes;
  return {
      {"read", Kind::kRead, kPlain, kChunk},
      {"read-block", Kind::kRead, kPlain + kBlock, kBlock},
      {"read-pinned", Kind::kRead, kPinned, 3 * kBlock},
      {"read-zero", Kind::kRead, kZero, 2 * kBlock},
      {"read-short", Kind::kRead, kShort, 2 * kBlock},
      {"write", Kind::kWrite, kPlain + kBlock, kBlock},
      {"write-part", Kind::kWrite, kPlain + kBlock + 100, 50},
      {"write-span", Kind::kWrite, kPlain + kBlock - 100, 2 * kBlock},
      {"write-fua", Kind::kWrite, kPlain + kBlock, 2 * kBlock, true},
      {"write-across", Kind::kWrite, kShort - kBlock, 2 * kBlock},
      {"write-pinned", Kind::kWrite, kPinned + kBlock, kBlock},
      {"write-pinned-part", Kind::kWrite, kPinned + kBlock + 7, 600},
      {"write-zero", Kind::kWrite, kZero + kBlock, kBlock},
      {"write-zero-part", Kind::kWrite, kZero + kBlock + 512, 40},
      {"write-short", Kind::kWrite, kShort, 2 * kBlock},
      {"zero", Kind::kZero, kPlain, kChunk},
      {"zero-block", Kind::kZero, kPlain + kBlock, kBlock},
      {"zero-pinned", Kind::kZero, kPinned, kChunk},
      {"discard", Kind::kDiscard, kPlain, kChunk},
      {"discard-pinned", Kind::kDiscard, kPinned, kChunk},
      {"discard-zero", Kind::kDiscard, kZero, kChunk},
      {"flush", Kind::kFlush},
      {"hydrate", Kind::kHydrate, kPlain, kChunk},
      {"hydrate-pinned", Kind::kHydrate, kPinned, kChunk},
      {"hydrate-short", Kind::kHydrate, kShort, 2 * kBlock},
      {"audit", Kind::kAudit, 0, kChunk},
      {"checkpoint", Kind::kCheckpoint},
      {"move-journal", Kind::kMoveJournal},
      {"move-manifest", Kind::kMoveManifest},
      {"move-superblock", Kind::kMoveSuperblock},
      {"relocate", Kind::kRelocate},
      {"restore", Kind::kRestore},
  };
}

// With 16 chunks of region three image chunks find a place, one of them in the
// spare.
std::vector<Setup> AllSetups() {
  const std::vector<DiskExtent> roomy{{3, 1}, {16, 18}};
  const std::vector<DiskExtent> tight{{3, 1}, {19, 15}};
  const std::vector<DiskExtent> home{{1, 1}, {3, 1}, {19, 14}};
  return {
      {"absent", roomy, {}, 0, false},
      {"clean",
       roomy,
       {"hydrate", "hydrate-pinned", "hydrate-short"},
       0,
       false},
      {"dirty",
       roomy,
       {"hydrate", "write", "write-pinned", "write-zero", "write-short"},
       0,
       false},
      {"patched",
       roomy,
       {"write-part", "write-pinned-part", "discard-zero"},
       0,
       false},
      {"wrapping", roomy, {"hydrate"}, 11, false},
      {"full", tight, {"hydrate", "hydrate-short", "read-pinned"}, 0, true},
      {"full-dirty",
       tight,
       {"write-part", "write-short", "write-zero"},
       0,
       true},
      {"occupied", home, {"hydrate-short", "hydrate"}, 0, true},
  };
}

}  // namespace

SmallWorld::SmallWorld()
    : image_(RandomBytes(SmallDisk::kImageBytes, 1)),
      source_disk_(RandomBytes(SmallDisk::kDiskChunks * kChunk, 2)),
      operations_(AllOperations()) {
  std::memset(image_.data() + 2 * kChunk, 0, kChunk);
  ManifestContent content = DescribeImage(image_, kChunk);
  content.pinned = {{1, 1}};
  manifest_ =
      std::make_shared<const Manifest>(SignAndOpen(content, &manifest_file_));
  for (const Setup& setup : AllSetups()) starts_.push_back(Make(setup));
}

const Operation* SmallWorld::FindOperation(std::string_view name) const {
  for (const Operation& op : operations_) {
    if (op.name == name) return &op;
  }
  return nullptr;
}

const SmallWorld::Start* SmallWorld::FindStart(std::string_view name) const {
  for (const Start& start : starts_) {
    if (start.setup.name == name) return &start;
  }
  return nullptr;
}

ImageFacts SmallWorld::Facts() const { return FactsOf(manifest_); }

std::vector<std::byte> SmallWorld::DataOf(const Operation& op, int number) {
  if (op.kind != Operation::Kind::kWrite) {
    return std::vector<std::byte>(op.size);
  }
  const auto seed = static_cast<uint64_t>(number + 1) << 40;
  return RandomBytes(op.size, seed + op.offset);
}

SmallWorld::Start SmallWorld::Make(const Setup& setup) {
  ModelDisk disk{DiskImage(source_disk_)};
  MapStore::CreateOptions options;
  Superblock& sb = options.superblock;
  sb.chunk_bytes = kChunk;
  sb.disk.size_bytes = disk.size_bytes();
  sb.phase = Phase::kStreaming;
  sb.image_bytes = image_.size();
  sb.manifest_digest = manifest_->digest();
  sb.image_name = "small";
  sb.migration_id.fill(std::byte{0x42});
  options.region = setup.region;
  options.manifest_file = manifest_file_;
  options.image = Facts();
  options.journal_chunks = 1;
  options.spare_chunks = 1;
  options.superblock_order = {DiskChunk{22}, DiskChunk{23}};
  auto store = Must(RunInline(MapStore::Create(disk, std::move(options))));
  Must(RunInline(store->WriteAnchor(SmallDisk::kAnchorOffset)));
  const std::vector<DiskChunk> sources{DiskChunk{0}, DiskChunk{5}};
  Must(RunInline(Relocate(disk, *store, sources)));
  store->Release(DiskChunk{5});
  const auto boot = std::span(image_).first(kChunk);
  AlignedBuffer boot_chunk(kChunk);
  std::ranges::copy(boot, boot_chunk.data());
  Must(RunInline([](ModelDisk& to, const AlignedBuffer& from) -> Task<Status> {
    co_return co_await to.Write(0, from.span());
  }(disk, boot_chunk)));
  const uint64_t all = manifest_->grid().full_mask(0);
  store->SetChunk(ImageChunk{0}, {Location::At(DiskChunk{0}), all, 0});
  Must(RunInline(store->Commit()));

  std::vector<std::byte> content = image_;
  {
    FakeChunkSource source(image_, kChunk);
    TestExecutor executor;
    StreamEngine engine(executor, disk, *store, source, manifest_, {});
    int number = 20;
    for (const std::string& name : setup.steps) {
      const Operation& op = *FindOperation(name);
      const std::vector<std::byte> data = DataOf(op, number++);
      if (op.kind == Operation::Kind::kWrite) {
        Must(RunInline(engine.Write(op.offset, data, true)));
      } else if (op.kind == Operation::Kind::kDiscard) {
        Must(RunInline(engine.Discard(op.offset, op.size)));
      } else if (op.kind == Operation::Kind::kRead) {
        std::vector<std::byte> out(op.size);
        Must(RunInline(engine.Read(op.offset, out)));
      } else {
        Must(RunInline(engine.Hydrate(ImageChunk{op.offset / kChunk},
                                      FetchClass::kBackfill)));
      }
      if (op.changes()) {
        std::ranges::copy(data,
                          content.begin() + static_cast<ptrdiff_t>(op.offset));
      }
      Must(RunInline(engine.Flush()));
    }
    for (uint32_t i = 0; i < setup.commits; ++i) {
      const ImageChunk chunk{4};
      store->SetChunk(chunk, i % 2 == 0 ? ChunkState{Location::Zero(), 0, 0}
                                        : ChunkState{});
      Must(RunInline(store->Commit()));
    }
  }
  if (setup.commits % 2 == 1) {
    std::fill(content.begin() + 4 * kChunk, content.end(), std::byte{0});
  }
  // As one run of bytes, so that copies are small.
  std::vector<std::byte> bytes(disk.size_bytes());
  disk.visible().Read(0, bytes);
  Start start{setup, DiskImage(std::move(bytes)), std::move(content), {}};
  start.places.assign(SmallDisk::kDiskChunks, DiskChunk{kNone});
  const std::string why = CheckDisk(start, start.disk, *store);
  Must(why.empty() ? OkStatus() : Error{ErrorCode::kCorrupt, why});
  for (uint64_t i = 0; i < SmallDisk::kDiskChunks; ++i) {
    const DiskChunk chunk{i};
    start.places[i] = store->map().Relocated(chunk).value_or(chunk);
  }
  return start;
}

std::string SmallWorld::CheckDisk(const Start& start, const DiskImage& disk,
                                  const MapStore& store) const {
  std::string why = CheckSource(start, disk, store);
  store.map().ForEach([&](ImageChunk chunk, const ChunkState& state) {
    if (why.empty() && state.location.on_disk()) {
      why = CheckChunk(disk, chunk, state);
    }
  });
  return why;
}

std::string SmallWorld::CheckSource(const Start& start, const DiskImage& disk,
                                    const MapStore& store) const {
  std::vector<std::byte> bytes(kBlockBytes);
  for (uint64_t i = 0; i < SmallDisk::kDiskChunks; ++i) {
    const DiskChunk chunk{i};
    const auto relocated = store.map().Relocated(chunk);
    if (!relocated && store.region().IsOurs(chunk)) continue;
    const DiskChunk at = relocated.value_or(chunk);
    for (uint64_t block = 0; block < kChunk; block += kBlockBytes) {
      const uint64_t where = at.value * kChunk + block;
      if (at == start.places[i] && !disk.IsWritten(where)) continue;
      disk.Read(where, bytes);
      if (std::memcmp(bytes.data(), source_disk_.data() + i * kChunk + block,
                      kBlockBytes) != 0) {
        return "the source's chunk " + std::to_string(i) +
               ", which should be in disk chunk " + std::to_string(at.value) +
               ", is damaged";
      }
    }
  }
  return {};
}

// What the map calls clean is as the manifest says; what was written to a
// pinned chunk is at home.
std::string SmallWorld::CheckChunk(const DiskImage& disk, ImageChunk chunk,
                                   const ChunkState& state) const {
  const std::string name = "image chunk " + std::to_string(chunk.value);
  if (manifest_->IsPinned(chunk) && state.dirty != 0 &&
      state.location != Location::At(HomeOf(chunk))) {
    return name + " is pinned, was written to and is not at home";
  }
  std::vector<std::byte> block(kBlockBytes);
  for (uint32_t i = 0; i < kChunk / kBlockBytes; ++i) {
    const uint64_t bit = uint64_t{1} << i;
    if ((state.valid & bit) == 0 || (state.dirty & bit) != 0) continue;
    const uint64_t in_chunk = i * kBlockBytes;
    disk.Read(state.location.chunk().value * kChunk + in_chunk, block);
    if (std::memcmp(block.data(),
                    image_.data() + chunk.value * kChunk + in_chunk,
                    kBlockBytes) != 0) {
      return name + ", block " + std::to_string(i) +
             ": clean in the map, but not the image's on the disk";
    }
  }
  return {};
}

}  // namespace bootstream
