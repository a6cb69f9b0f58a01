#include "tests/support/engine_rig.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "blockmap/disk/find_migration.h"

namespace bootstream {
namespace {

template <typename T>
T Must(Result<T> result) {
  if (!result) {
    std::fprintf(stderr, "rig: %s\n", result.error().message.c_str());
    std::abort();
  }
  return std::move(*result);
}

ImageFacts FactsFor(const std::shared_ptr<const Manifest>& manifest) {
  return {manifest->grid(),
          [manifest](ImageChunk chunk) { return manifest->IsZero(chunk); },
          [manifest](ImageChunk chunk) {
            return manifest->InBootSet(chunk) || manifest->IsPinned(chunk);
          }};
}

constexpr DiskChunk kFirst{64};

}  // namespace

EngineRig::EngineRig(std::vector<DiskExtent> region)
    : image_(RandomBytes(kImageChunks * kChunk, 1)),
      old_disk_(RandomBytes(kDiskChunks * kChunk, 2)),
      region_(std::move(region)) {
  std::memset(image_.data() + 8 * kChunk, 0, 4 * kChunk);
  ManifestContent content = DescribeImage(image_, kChunk);
  content.pinned = {{4, 2}};
  content.prefetch = {{20, 2, 0}, {14, 1, 5}};
  manifest_ =
      std::make_shared<const Manifest>(SignAndOpen(content, &manifest_file_));
  device_ = std::make_unique<MemoryDevice>(old_disk_);
  faults_ = std::make_unique<FaultyDevice>(*device_);

  MapStore::CreateOptions options;
  Superblock& superblock = options.superblock;
  superblock.chunk_bytes = kChunk;
  superblock.disk.size_bytes = device_->size_bytes();
  superblock.phase = Phase::kStreaming;
  superblock.image_bytes = image_.size();
  superblock.manifest_digest = manifest_->digest();
  superblock.image_name = "image";
  options.region = region_;
  options.manifest_file = manifest_file_;
  options.image = FactsFor(manifest_);
  options.journal_chunks = 2;
  options.spare_chunks = 2;
  options.superblock_order = {kFirst, DiskChunk{kFirst.value + 1}};
  store_ = Must(RunInline(MapStore::Create(*faults_, std::move(options))));
  OpenEngine();
}

void EngineRig::OpenEngine() {
  source_ = std::make_unique<FakeChunkSource>(image_, kChunk);
  StreamEngine::Options options = options_;
  options.report = [this](const std::string& text) {
    reports_.push_back(text);
  };
  engine_ = std::make_unique<StreamEngine>(
      executor_, *faults_, *store_, *source_, manifest_, std::move(options));
}

void EngineRig::Restart() {
  if (const Status s = TryRestart(); !s) {
    std::fprintf(stderr, "rig: %s\n", s.error().message.c_str());
    std::abort();
  }
}

Status EngineRig::TryRestart() {
  engine_.reset();
  source_.reset();
  if (store_) last_ = store_->superblock();
  store_.reset();
  const auto superblock = FindSuperblock();
  if (!superblock) return superblock.error();
  const auto file = RunInline(MapStore::ReadManifest(*faults_, *superblock));
  if (!file) return file.error();
  if (*file != manifest_file_) {
    return Error{ErrorCode::kCorrupt, "the manifest has changed"};
  }
  std::unique_ptr<KeptChanges> kept;
  if (kept_) {
    kept = Must(KeptChanges::Open(UniqueFd(::dup(kept_.get())),
                                  superblock->migration_id));
  }
  auto store = RunInline(MapStore::Open(
      *faults_, *superblock, FactsFor(manifest_), false, std::move(kept)));
  if (!store) return store.error();
  store_ = std::move(*store);
  OpenEngine();
  return OkStatus();
}

Result<Superblock> EngineRig::FindSuperblock() {
  if (last_.anchor_offset == kNone) {
    return RunInline(
        MapStore::ReadSuperblock(*faults_, kChunk, last_.superblock_chunks));
  }
  const Sha256 no_serial{};
  auto found = RunInline(FindMigration(*faults_, no_serial));
  if (!found) return found.error();
  auto known = WithoutDoubt(*found);
  if (!known) return known.error();
  if (!*known) return Error{ErrorCode::kNotFound, "there is no migration"};
  return std::move(**known);
}

void EngineRig::RestartWith(StreamEngine::Options options) {
  options_ = std::move(options);
  Restart();
}

void EngineRig::KeepChanges() {
  kept_.reset(::memfd_create("kept", MFD_CLOEXEC));
  Restart();
}

std::vector<std::byte> EngineRig::Read(uint64_t offset, uint64_t size) {
  std::vector<std::byte> out(size);
  const Status status = RunInline(engine_->Read(offset, out));
  if (!status) {
    std::fprintf(stderr, "rig: read: %s\n", status.error().message.c_str());
    std::abort();
  }
  return out;
}

void EngineRig::Write(uint64_t offset, uint64_t size, std::byte value) {
  const std::vector<std::byte> data(size, value);
  const Status status = RunInline(engine_->Write(offset, data, false));
  if (!status) {
    std::fprintf(stderr, "rig: write: %s\n", status.error().message.c_str());
    std::abort();
  }
}

std::vector<std::byte> EngineRig::SourceChunk(uint64_t chunk) const {
  const DiskChunk at =
      store_->map().Relocated(DiskChunk{chunk}).value_or(DiskChunk{chunk});
  const auto bytes = device_->bytes().subspan(at.value * kChunk, kChunk);
  return {bytes.begin(), bytes.end()};
}

}  // namespace bootstream
