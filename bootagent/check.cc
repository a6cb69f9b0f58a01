#include <sstream>
#include <vector>

#include "blockmap/base/aligned_buffer.h"
#include "blockmap/image/signing.h"
#include "bootagent/locate.h"
#include "bootagent/plan.h"
#include "bootagent/status.h"

namespace bootstream {
namespace {

struct Findings {
  uint64_t matching = 0;
  uint64_t not_checkable = 0;  // dirty, or not all there
  uint64_t touched = 0;        // boot chunks that something has written to
  uint64_t source_readable = 0;
  std::vector<std::string> wrong;
};

struct Held {
  ImageChunk chunk;
  ChunkState state;
};

std::vector<Held> ChunksOnDisk(const MapStore& store) {
  std::vector<Held> held;
  store.map().ForEach([&](ImageChunk chunk, const ChunkState& state) {
    if (state.location.on_disk()) held.push_back({chunk, state});
  });
  return held;
}

Task<Status> CheckChunk(const Job& job, const OpenedMigration& migration,
                        const Held& held, Findings& findings) {
  const Grid image = migration.manifest->grid();
  const uint64_t full = image.full_mask(held.chunk.value);
  if (held.state.dirty != 0 || held.state.valid != full) {
    ++findings.not_checkable;
    co_return OkStatus();
  }
  AlignedBuffer data(image.bytes_of(held.chunk.value));
  const DiskChunk place = held.state.location.chunk();
  const auto read =
      co_await job.device.Read(image.offset_of(place.value), data.span());
  const std::string name = "image chunk " + std::to_string(held.chunk.value) +
                           " in disk chunk " + std::to_string(place.value);
  const bool armed = migration.store->superblock().phase >= Phase::kArmed;
  if (!read) {
    findings.wrong.push_back(name + ": " + read.error().message);
  } else if (migration.manifest->Matches(held.chunk, data.span())) {
    ++findings.matching;
  } else if (armed && place == HomeOf(held.chunk) &&
             IsKept(*migration.manifest, held.chunk)) {
    ++findings.touched;
  } else {
    findings.wrong.push_back(name + " does not match its digest");
  }
  co_return OkStatus();
}

Task<void> CheckSource(const Job& job, const MapStore& store,
                       Findings& findings) {
  const Grid grid = store.disk_grid();
  AlignedBuffer data(grid.chunk_bytes);
  for (const auto& [source, now] : store.map().relocations()) {
    const auto read = co_await job.device.Read(
        grid.offset_of(now.value), data.span().first(grid.bytes_of(now.value)));
    if (read) {
      ++findings.source_readable;
    } else {
      findings.wrong.push_back("the old system's chunk " +
                               std::to_string(source.value) + ": " +
                               read.error().message);
    }
  }
}

std::string Report(const Findings& findings) {
  std::ostringstream out;
  out << findings.matching << " chunks match the manifest, "
      << findings.not_checkable << " are dirty or in part\n"
      << findings.touched << " boot chunks were written to since arming\n"
      << findings.source_readable
      << " chunks of the old system lie in the region and can be read\n";
  for (const std::string& wrong : findings.wrong)
    out << "WRONG: " << wrong << "\n";
  return out.str();
}

}  // namespace

Task<Result<std::string>> CheckMigration(const Job& job) {
  const auto located = co_await Locate(job);
  if (!located) co_return located.error();
  if (!located->superblock) {
    co_return Error{ErrorCode::kNotFound, "there is no migration on this disk"};
  }
  const auto migration =
      co_await OpenMigration(job, *located->superblock, /*read_only=*/true);
  if (!migration) co_return migration.error();
  Findings findings;
  const auto held = ChunksOnDisk(*migration->store);
  job.progress.Start("check", held.size(), Progress::Unit::kItems);
  for (const Held& one : held) {
    auto s = co_await CheckChunk(job, *migration, one, findings);
    if (!s) co_return s.error();
    job.progress.Add(1);
  }
  co_await CheckSource(job, *migration->store, findings);
  job.progress.Finish();
  if (findings.wrong.empty()) co_return Report(findings);
  co_return Error{ErrorCode::kCorrupt, Report(findings)};
}

}  // namespace bootstream
