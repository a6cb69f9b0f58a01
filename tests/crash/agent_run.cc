#include "tests/crash/agent_run.h"

#include <utility>

#include "blockmap/disk/file_extents.h"
#include "blockmap/disk/region_tag.h"
#include "bootagent/migrate.h"
#include "bootagent/return.h"
#include "bootagent/rollback.h"

namespace bootstream {
namespace {

// The image; its manifest is on the disk already, so that nobody may ask.
class ImageOnTheWay final : public ImageAccess {
 public:
  explicit ImageOnTheWay(const Scene& scene)
      : source_({std::shared_ptr<void>(), &scene.image}, Scene::kChunk) {}
  Task<Result<ManifestFile>> FetchManifest() override {
    co_return Error{ErrorCode::kCorrupt,
                    "the migration is not found: it would begin anew"};
  }
  Result<ChunkSource*> Source(std::shared_ptr<const Manifest>,
                              const std::vector<std::string>&) override {
    return &source_;
  }

 private:
  FakeChunkSource source_;
};

// What a Job borrows.
struct Process {
  Process(BlockDevice& device, const std::string& path, uint32_t batch_chunks)
      : progress(stderr, Progress::Style::kSilent),
        job{path, device, {}, stops, progress, batch_chunks} {}
  StopPoints stops;
  Progress progress;
  Job job;
};

}  // namespace

Status AgentRun::Migrate(BlockDevice& device) const {
  Process process(device, path_, batch_chunks_);
  ImageOnTheWay access(scene_);
  MigrateOptions options;
  options.image_name = "new";
  return RunInline(bootstream::Migrate(process.job, options, access));
}

Status AgentRun::Rollback(BlockDevice& device) const {
  Process process(device, path_, batch_chunks_);
  return RunInline(bootstream::Rollback(process.job, {}));
}

Status AgentRun::Return(BlockDevice& device) const {
  Process process(device, path_, batch_chunks_);
  ImageOnTheWay access(scene_);
  return RunInline(bootstream::Return(process.job, {}, access));
}

Status AgentRun::LayDown(BlockDevice& device, const Superblock& first) const {
  const ByteExtent fs{first.source_fs_offset,
                      device.size_bytes() - first.source_fs_offset};
  const auto extents = FileExtents(path_, fs, kRegionFileName);
  if (!extents) return extents.error();
  const auto tag = ReadRegionTag(path_, fs, kRegionFileName);
  if (!tag) return tag.error();
  MapStore::CreateOptions options;
  options.superblock = first;
  options.superblock.migration_id = tag->migration_id;
  options.region = scene_.region;
  options.manifest_file = scene_.manifest_file;
  options.image = FactsOf(scene_.manifest);
  options.journal_chunks = first.journal_chunks;
  options.spare_chunks = first.spare_chunks;
  options.superblock_order =
      WholeChunks(*extents, Grid{Scene::kChunk, device.size_bytes()});
  auto store = RunInline(MapStore::Create(device, std::move(options)));
  return store ? OkStatus() : Status(store.error());
}

Result<Superblock> AgentRun::Find(BlockDevice& device) const {
  Process process(device, path_, batch_chunks_);
  auto located = RunInline(Locate(process.job));
  if (!located) return located.error();
  if (!located->superblock) {
    return Error{ErrorCode::kNotFound, "no migration is found"};
  }
  Superblock superblock = std::move(*located->superblock);
  if (superblock.phase == Phase::kParked &&
      located->by != Located::By::kRegionFile) {
    superblock.phase = Phase::kRollingBack;
  }
  return superblock;
}

}  // namespace bootstream
