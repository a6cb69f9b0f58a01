#include "bootagent/tables.h"

#include <algorithm>
#include <cstring>

#include "blockmap/base/aligned_buffer.h"
#include "blockmap/disk/source_view.h"
#include "bootagent/plan.h"

namespace bootstream {
namespace {

constexpr ByteExtent kLba0{0, kSectorBytes};
constexpr ByteExtent kLba1{kSectorBytes, kSectorBytes};

Task<Status> WriteFlushed(BlockDevice& device, uint64_t offset,
                          std::span<const std::byte> data) {
  if (auto s = co_await device.Write(offset, data); !s) co_return s;
  co_return co_await device.Flush();
}

// Bytes of the image, from wherever its chunks lie on the disk.
Task<Result<AlignedBuffer>> ReadImage(const Job& job, const MapStore& store,
                                      ByteExtent range) {
  const Grid grid = store.disk_grid();
  AlignedBuffer out(range.size);
  uint64_t done = 0;
  while (done < range.size) {
    const uint64_t at = range.offset + done;
    const ImageChunk chunk{at / grid.chunk_bytes};
    const uint64_t inside = at % grid.chunk_bytes;
    const uint64_t size =
        std::min<uint64_t>(range.size - done, grid.chunk_bytes - inside);
    const Location location = store.map().Get(chunk).location;
    if (!location.on_disk()) {
      co_return Error{ErrorCode::kCorrupt,
                      "image chunk " + std::to_string(chunk.value) +
                          " of the boot set is not on the disk"};
    }
    auto s = co_await job.device.Read(
        grid.offset_of(location.chunk().value) + inside,
        out.span().subspan(done, size));
    if (!s) co_return s.error();
    done += size;
  }
  co_return std::move(out);
}

}  // namespace

Task<Result<PartitionTable>> ReadSourceTable(const Job& job,
                                             const MapStore& store) {
  SourceView source(job.device, store.map(), store.disk_grid());
  auto table = co_await ReadPartitionTable(source);
  if (!table) co_return Annotate(table.error(), "the source's copy");
  if (table->type != store.superblock().disk.table_type ||
      table->id != store.superblock().disk.source_table_id) {
    co_return Error{ErrorCode::kCorrupt,
                    "the copy of the source's partition table is not the one "
                    "that the migration began with"};
  }
  co_return table;
}

std::vector<ByteExtent> SourceTableSectors(const PartitionTable& source) {
  if (source.type != TableType::kGpt) return {kLba0};
  return {source.table_extents[1], kLba1, kLba0};
}

Task<Status> WriteStub(const Job& job, const MapStore& store,
                       std::span<const ByteExtent> others,
                       const std::string& prefix) {
  const Superblock& superblock = store.superblock();
  Stub stub;
  stub.chunk_bytes = superblock.chunk_bytes;
  stub.migration_id = superblock.migration_id;
  stub.disk = superblock.disk;
  stub.superblock_chunks = superblock.superblock_chunks;
  const auto sector = EncodeStub(stub);
  AlignedBuffer buffer(kSectorBytes);
  std::memcpy(buffer.data(), sector.data(), sector.size());
  auto s = co_await WriteFlushed(job.device, 0, buffer.span());
  if (s) s = job.stops.Reach(prefix + "-stub");
  for (const ByteExtent& extent : others) {
    if (!s) co_return s;
    const AlignedBuffer zeroes(extent.size);
    s = co_await WriteFlushed(job.device, extent.offset, zeroes.span());
    if (s) s = job.stops.Reach(prefix + "-invalid");
  }
  co_return s;
}

Task<Status> RestoreSourceTable(const Job& job, const MapStore& store,
                                std::span<const ByteExtent> sectors) {
  SourceView source(job.device, store.map(), store.disk_grid());
  for (const ByteExtent& extent : sectors) {
    AlignedBuffer buffer(extent.size);
    auto s = co_await source.Read(extent.offset, buffer.span());
    if (!s) co_return s;
    s = co_await WriteFlushed(job.device, extent.offset, buffer.span());
    if (!s) co_return s;
    if (s = job.stops.Reach("source-table"); !s) co_return s;
  }
  co_return OkStatus();
}

Task<Status> WriteAroundTables(const Job& job, const MapStore& store,
                               const Manifest& manifest) {
  const auto& tables = manifest.content().tables;
  for (const ImageChunk chunk : TableChunks(manifest)) {
    const uint64_t home = manifest.grid().offset_of(chunk.value);
    const ByteExtent range{home, manifest.grid().bytes_of(chunk.value)};
    const auto content = co_await ReadImage(job, store, range);
    if (!content) co_return content.error();
    auto s = co_await WriteAround(job.device, home, content->span(), tables);
    if (!s) co_return s;
  }
  if (auto s = co_await job.device.Flush(); !s) co_return s;
  co_return job.stops.Reach("tables-around");
}

Task<Status> WriteTargetTables(const Job& job, MapStore& store,
                               const Manifest& manifest) {
  for (const ByteExtent& extent : manifest.content().tables) {
    const auto content = co_await ReadImage(job, store, extent);
    if (!content) co_return content.error();
    auto s = co_await WriteFlushed(job.device, extent.offset, content->span());
    if (!s) co_return s;
    if (s = job.stops.Reach("table"); !s) co_return s;
  }
  for (const ImageChunk chunk : TableChunks(manifest)) {
    ChunkState state = store.map().Get(chunk);
    state.location = Location::At(HomeOf(chunk));
    store.SetChunk(chunk, state);
  }
  if (auto s = co_await store.Commit(); !s) co_return s;
  co_return job.stops.Reach("tables-recorded");
}

}  // namespace bootstream
