#include "imgserver/image_builder.h"

#include <algorithm>
#include <thread>
#include <unordered_map>

#include "blockmap/base/file_util.h"
#include "blockmap/image/manifest.h"
#include "imgserver/boot_plan.h"
#include "imgserver/chunk_pipeline.h"
#include "imgserver/disk_image.h"
#include "imgserver/image_layout.h"
#include "imgserver/known_chunks.h"
#include "imgserver/pack_writer.h"
#include "imgserver/repository.h"

namespace bootstream {
namespace {

constexpr uint64_t kTraceBytesMax = 256 << 20;

Result<BootTrace> LoadTrace(const std::string& path) {
  const auto bytes = ReadWholeFile(path, kTraceBytesMax);
  if (!bytes) return bytes.error();
  auto trace = ParseTrace(
      std::string(reinterpret_cast<const char*>(bytes->data()), bytes->size()));
  if (!trace) return Annotate(trace.error(), path);
  return trace;
}

struct Traces {
  std::optional<BootTrace> watched;
  std::vector<BootTrace> machines;
};

Result<Traces> LoadTraces(const BuildOptions& options) {
  Traces traces;
  if (!options.trace_file.empty()) {
    auto trace = LoadTrace(options.trace_file);
    if (!trace) return trace.error();
    traces.watched = std::move(*trace);
  }
  for (const std::string& path : options.machine_trace_files) {
    auto trace = LoadTrace(path);
    if (!trace) return trace.error();
    traces.machines.push_back(std::move(*trace));
  }
  return traces;
}

// Chunks that may hold data, in the order in which packs hold them: boot set,
// prefetch, the rest by address.
std::vector<uint64_t> PackOrder(const DiskImage& image, const Grid& grid,
                                const BootPlan& plan) {
  std::vector<bool> wanted(grid.chunk_count());
  for (const ByteExtent& extent : image.DataExtents()) {
    const uint64_t last = (extent.end() - 1) / grid.chunk_bytes;
    for (uint64_t c = extent.offset / grid.chunk_bytes; c <= last; ++c) {
      wanted[c] = true;
    }
  }
  std::vector<uint64_t> order;
  const auto take = [&](uint64_t first, uint64_t count) {
    for (uint64_t chunk = first; chunk < first + count; ++chunk) {
      if (wanted[chunk]) order.push_back(chunk);
      wanted[chunk] = false;
    }
  };
  for (const ChunkExtent& extent : plan.boot_set) {
    take(extent.first, extent.count);
  }
  for (const PrefetchEntry& entry : plan.prefetch) {
    take(entry.first, entry.count);
  }
  take(0, grid.chunk_count());
  return order;
}

// Where each data chunk went; becomes runs, chunks and packs of the manifest.
class ChunkCatalog {
 public:
  ChunkCatalog(const KnownChunks& known, PackWriter& writer)
      : known_(known), writer_(writer) {}

  Status Add(const PreparedChunk& chunk) {
    ChunkEntry entry{chunk.digest, 0, 0, 0};
    if (const auto* place = known_.Find(chunk.digest)) {
      entry.pack = NumberOf(Source{false, place->pack});
      entry.packed_bytes = place->packed_bytes;
      entry.pack_offset = place->pack_offset;
    } else if (const auto found = fresh_.find(chunk.digest);
               found != fresh_.end()) {
      entry = entries_[found->second].second;
    } else {
      const auto placed = writer_.Append(chunk.frame);
      if (!placed) return placed.error();
      entry.pack = NumberOf(Source{true, placed->pack});
      entry.packed_bytes = static_cast<uint32_t>(chunk.frame.size());
      entry.pack_offset = placed->offset;
      fresh_.emplace(chunk.digest, entries_.size());
    }
    entries_.emplace_back(chunk.chunk, entry);
    return OkStatus();
  }

  void Fill(const std::vector<PackEntry>& new_packs, ManifestContent& content) {
    for (const Source& source : sources_) {
      content.packs.push_back(source.fresh ? new_packs[source.index]
                                           : known_.packs()[source.index]);
    }
    std::sort(entries_.begin(), entries_.end(),
              [](const auto& a, const auto& b) { return a.first < b.first; });
    for (const auto& [chunk, entry] : entries_) {
      auto& runs = content.runs;
      if (runs.empty() || runs.back().first + runs.back().count != chunk) {
        runs.push_back({chunk, 0, content.chunks.size()});
      }
      ++runs.back().count;
      content.chunks.push_back(entry);
    }
  }

 private:
  struct Source {
    bool fresh = false;
    size_t index = 0;
    bool operator==(const Source&) const = default;
  };
  // The manifest's number of a pack; numbered as they are first needed.
  uint32_t NumberOf(const Source& source) {
    const auto found = std::find(sources_.begin(), sources_.end(), source);
    const auto number = static_cast<uint32_t>(found - sources_.begin());
    if (found == sources_.end()) sources_.push_back(source);
    return number;
  }

  const KnownChunks& known_;
  PackWriter& writer_;
  std::vector<Source> sources_;
  std::vector<std::pair<uint64_t, ChunkEntry>> entries_;
  std::unordered_map<Sha256, size_t, DigestHash> fresh_;
};

class Builder {
 public:
  Builder(const BuildOptions& options, const Repository& repository,
          const PrivateKey& key, TrustedKeys keys, Progress& progress)
      : options_(options),
        repository_(repository),
        key_(key),
        keys_(std::move(keys)),
        progress_(progress) {}

  Result<BuildReport> Build();

 private:
  Status CheckVersionIsFree() const;
  Result<ManifestContent> Prepare(const DiskImage& image, PackWriter& writer);
  Status PackChunks(const DiskImage& image, const BootPlan& plan,
                    PackWriter& writer, ManifestContent& content);
  Status Publish(PackWriter& writer, const std::vector<std::byte>& file);
  Status PublishLatest();
  void Count(const ManifestContent& content);

  const BuildOptions& options_;
  const Repository& repository_;
  const PrivateKey& key_;
  const TrustedKeys keys_;
  Progress& progress_;
  BuildReport report_;
};

// Another spelling of the same version ("13" and "13.0") would confuse
// everybody who compares numbers.
Status Builder::CheckVersionIsFree() const {
  const auto versions = repository_.Versions();
  if (!versions) return versions.error();
  for (const auto& it : *versions) {
    if (it.name == options_.name && it.version != options_.version &&
        *ParseImageVersion(it.version) ==
            *ParseImageVersion(options_.version)) {
      return Error{ErrorCode::kRefused,
                   options_.name + ":" + options_.version +
                       " is published already, as version " + it.version +
                       "; choose a higher version"};
    }
  }
  const auto latest = repository_.LoadLatest(options_.name, keys_);
  if (!latest && latest.error().code != ErrorCode::kNotFound) {
    return Annotate(latest.error(), "another key publishes this image");
  }
  return OkStatus();
}

Status Builder::PackChunks(const DiskImage& image, const BootPlan& plan,
                           PackWriter& writer, ManifestContent& content) {
  auto known = KnownChunks::Read(repository_, keys_, report_.warnings);
  if (!known) return known.error();
  const Grid grid{options_.chunk_bytes, image.size_bytes()};
  const auto order = PackOrder(image, grid, plan);
  ChunkCatalog catalog(*known, writer);
  PipelineOptions pipeline{options_.level, options_.thread_count};
  if (pipeline.thread_count == 0) {
    pipeline.thread_count = std::max(1U, std::thread::hardware_concurrency());
  }
  progress_.Start("pack", order.size() * uint64_t{grid.chunk_bytes});
  Status status = PrepareChunks(
      image, grid, order, pipeline,
      [&known](const Sha256& digest) { return known->Find(digest) != nullptr; },
      [&](const PreparedChunk& chunk) -> Status {
        progress_.Add(grid.chunk_bytes);
        return chunk.zero ? OkStatus() : catalog.Add(chunk);
      });
  progress_.Finish();
  if (!status) return status;
  if (auto unchanged = image.CheckUnchanged(); !unchanged) return unchanged;
  const auto new_packs = writer.Finish();
  if (!new_packs) return new_packs.error();
  report_.new_pack_count = new_packs->size();
  report_.new_packed_bytes = writer.written_bytes();
  catalog.Fill(*new_packs, content);
  return OkStatus();
}

Result<ManifestContent> Builder::Prepare(const DiskImage& image,
                                         PackWriter& writer) {
  const Grid grid{options_.chunk_bytes, image.size_bytes()};
  const auto traces = LoadTraces(options_);
  if (!traces) return traces.error();
  if (!traces->watched) {
    report_.warnings.push_back(
        "the boot was not watched: without --trace the boot set is only the "
        "partition tables, the ESP and /boot");
  }
  const auto layout = ReadLayout(image, grid, options_.boot_partition);
  if (!layout) return layout.error();
  const auto plan = PlanBoot(grid, *layout, traces->watched, traces->machines);
  if (!plan) return plan.error();
  ManifestContent content;
  content.name = options_.name;
  content.version = options_.version;
  content.kernel_command_line = options_.kernel_command_line;
  content.grow = options_.grow;
  content.base_urls = options_.base_urls;
  content.image_bytes = image.size_bytes();
  content.chunk_bytes = options_.chunk_bytes;
  content.boot_set = plan->boot_set;
  content.pinned = plan->pinned;
  content.tables = layout->table.table_extents;
  content.prefetch = plan->prefetch;
  content.table_id = layout->table.id;
  report_.boot_chunk_count = plan->boot_chunk_count;
  for (const auto& e : plan->prefetch) report_.prefetch_chunk_count += e.count;
  if (auto s = PackChunks(image, *plan, writer, content); !s) return s.error();
  return content;
}

void Builder::Count(const ManifestContent& content) {
  const Grid grid{content.chunk_bytes, content.image_bytes};
  report_.image_bytes = content.image_bytes;
  report_.data_chunk_count = content.chunks.size();
  for (const ChunkRun& run : content.runs) {
    const uint64_t last = run.first + run.count - 1;
    report_.data_bytes +=
        (run.count - 1) * uint64_t{grid.chunk_bytes} + grid.bytes_of(last);
  }
  for (const auto& entry : content.chunks) {
    report_.packed_bytes += entry.packed_bytes;
  }
}

Status Builder::PublishLatest() {
  const auto latest = repository_.LoadLatest(options_.name, keys_);
  if (!latest && latest.error().code != ErrorCode::kNotFound) {
    return latest.error();
  }
  if (latest && *ParseImageVersion(latest->version) >
                    *ParseImageVersion(options_.version)) {
    report_.warnings.push_back("'latest' stays at version " + latest->version +
                               ", which is higher");
    return OkStatus();
  }
  report_.is_latest = true;
  if (latest && latest->manifest_digest == report_.manifest_digest) {
    return OkStatus();
  }
  const auto file = EncodeLatest(
      {options_.name, options_.version, report_.manifest_digest}, key_);
  if (!file) return file.error();
  return repository_.PublishLatest(options_.name, *file);
}

Status Builder::Publish(PackWriter& writer,
                        const std::vector<std::byte>& file) {
  const Repository::Version version{
      options_.name, options_.version,
      repository_.manifest_path(options_.name, options_.version)};
  const auto existing = Repository::Load(version, nullptr);
  if (!existing && existing.error().code != ErrorCode::kNotFound) {
    return existing.error();
  }
  if (existing && existing->digest() != report_.manifest_digest) {
    return Error{ErrorCode::kRefused,
                 options_.name + ":" + options_.version +
                     " is published already with other content; choose a "
                     "higher version"};
  }
  report_.already_published = existing.has_value();
  if (auto status = writer.Publish(); !status) return status;
  if (!existing) {
    if (auto s =
            repository_.PublishManifest(options_.name, options_.version, file);
        !s) {
      return s;
    }
  }
  return PublishLatest();
}

Result<BuildReport> Builder::Build() {
  if (auto status = CheckVersionIsFree(); !status) return status.error();
  const auto image = DiskImage::Open(options_.disk);
  if (!image) return image.error();
  PackWriter writer(repository_, options_.pack_bytes_max);
  const auto content = Prepare(*image, writer);
  if (!content) return content.error();
  const PrivateKey* const signer = &key_;
  const auto file = Manifest::Encode(*content, {&signer, 1});
  if (!file) return file.error();
  const auto manifest = Manifest::Open(*file, keys_);  // as everybody will
  if (!manifest) return manifest.error();
  report_.manifest_digest = manifest->digest();
  for (const ChunkExtent& extent : content->boot_set) {
    for (uint64_t i = 0; i < extent.count; ++i) {
      const auto* entry = manifest->Find(ImageChunk{extent.first + i});
      if (entry != nullptr) report_.boot_packed_bytes += entry->packed_bytes;
    }
  }
  Count(*content);
  if (auto status = Publish(writer, *file); !status) return status.error();
  return std::move(report_);
}

Status CheckOptions(const BuildOptions& options) {
  if (auto status = CheckImageName(options.name); !status) return status;
  if (auto version = ParseImageVersion(options.version); !version) {
    return version.error();
  }
  const uint32_t chunk = options.chunk_bytes;
  if (chunk < kChunkBytesMin || chunk > kChunkBytesMax ||
      (chunk & (chunk - 1)) != 0) {
    return Error{ErrorCode::kInvalid,
                 "a chunk has 65536, 131072 or 262144 bytes"};
  }
  return OkStatus();
}

}  // namespace

Result<BuildReport> BuildImage(const BuildOptions& options,
                               Progress& progress) {
  if (auto status = CheckOptions(options); !status) return status.error();
  const auto key = PrivateKey::Load(options.key_file);
  if (!key) return key.error();
  auto public_key = key->public_key();
  if (!public_key) return public_key.error();
  TrustedKeys keys;
  keys.Add(std::move(*public_key));
  const auto repository = Repository::OpenOrCreate(options.repository);
  if (!repository) return repository.error();
  const auto lock = repository->Lock();
  if (!lock) return lock.error();
  return Builder(options, *repository, *key, std::move(keys), progress).Build();
}

}  // namespace bootstream
