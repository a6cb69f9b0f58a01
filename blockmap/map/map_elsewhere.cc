#include <algorithm>
#include <string>
#include <utility>

#include "blockmap/base/aligned_buffer.h"
#include "blockmap/map/map_store_impl.h"

namespace bootstream {
namespace {

// A disk that is gone refuses everywhere.
constexpr int kTriesMax = 16;

}  // namespace

Task<Status> MapStore::Impl::Flush() {
  const Status status = co_await device.Flush();
  if (!status) co_return Fail(status.error());
  co_return status;
}

bool MapStore::Impl::MayBeElsewhere(const Error& error) const {
  return error.code == ErrorCode::kIo && !failure;
}

bool MapStore::Impl::TakeOthers(std::vector<DiskChunk>& chunks,
                                std::vector<DiskChunk>& refused) {
  if (region.plain_free_count() < chunks.size()) return false;
  refused.insert(refused.end(), chunks.begin(), chunks.end());
  chunks = TakeMetadata(chunks.size());
  return true;
}

Task<Status> MapStore::Impl::PlaceJournal(JournalPlace& journal,
                                          uint64_t first_sequence) {
  std::vector<DiskChunk> refused;
  Status status;
  for (int tries = 1;; ++tries) {
    status = co_await WriteJournalHeaders(device, chunk_bytes(), journal.name,
                                          journal.chunks, first_sequence);
    if (status || !MayBeElsewhere(status.error()) || tries == kTriesMax) break;
    if (!TakeOthers(journal.chunks, refused)) break;
  }
  (void)co_await GiveBack(std::move(refused));
  co_return status;
}

Task<Status> MapStore::Impl::PlaceCheckpoint(Snapshot& snapshot) {
  std::vector<DiskChunk> refused;
  Status status;
  for (int tries = 1;; ++tries) {
    status = co_await WriteChain(device, chunk_bytes(), snapshot.name,
                                 snapshot.chunks, snapshot.bytes);
    if (status || !MayBeElsewhere(status.error()) || tries == kTriesMax) break;
    if (!TakeOthers(snapshot.chunks, refused)) break;
  }
  (void)co_await GiveBack(std::move(refused));
  co_return status;
}

Task<Status> MapStore::Impl::TryPlace(DiskChunk chunk) {
  const AlignedBuffer zeroes(chunk_bytes());
  const Status written =
      co_await device.Write(chunk.value * chunk_bytes(), zeroes.span());
  if (!written) region.SetOccupant(chunk, {ChunkUse::kReserved, 0});
  co_return written;
}

Task<Result<std::vector<DiskChunk>>> MapStore::Impl::TakeUnreserved(
    uint64_t count) {
  const PlacementWish wish{PlacementWish::For::kSource, ImageChunk{}};
  Error error{ErrorCode::kNoSpace, "map: no room to move metadata to"};
  std::vector<DiskChunk> chunks;
  for (int tries = 1; chunks.size() < count && tries <= kTriesMax;) {
    const auto chunk = region.Allocate(wish, /*use_spare=*/true);
    if (!chunk) break;
    region.SetOccupant(*chunk, {ChunkUse::kMetadata, 0});
    const Status tried = co_await TryPlace(*chunk);
    if (tried) {
      chunks.push_back(*chunk);
    } else {
      error = tried.error();
      ++tries;
    }
  }
  if (chunks.size() == count) co_return chunks;
  FreeMetadata(chunks);
  co_return error;
}

Task<Status> MapStore::Impl::GiveBack(std::vector<DiskChunk> chunks) {
  for (const DiskChunk chunk : chunks) {
    const Status tried = co_await TryPlace(chunk);
    if (tried || claimed.contains(chunk)) FreeMetadata({chunk});
  }
  co_return OkStatus();
}

Status MapStore::Impl::AddTo(LoadedMap& loaded, const Batch& batch) const {
  // A write that failed may have come to the disk all the same.
  if (batch.sequence && loaded.end.sequence > *batch.sequence) {
    return OkStatus();
  }
  for (const auto& payload : batch.records.payloads()) {
    const auto records = DecodeRecords(payload);
    if (!records) return records.error();
    for (const Record& record : *records) {
      Status s = ApplyRecord(record, limits(), loaded.contents.map);
      if (!s) return s;
    }
  }
  return OkStatus();
}

Task<Status> MapStore::Impl::WriteElsewhere(Batch* batch) {
  // It writes down a state before `batch`.
  if (Status s = co_await WaitForCheckpoint(); !s) co_return s;
  LoadedMap loaded;
  Status status = co_await LoadMap(device, superblock, loaded);
  if (status && batch != nullptr) status = AddTo(loaded, *batch);
  if (!status) co_return status;
  // After whatever the old journal may have, and not before what our
  // predecessor wrote last.
  uint64_t first_sequence = writer.next_sequence();
  if (batch != nullptr && !batch->sequence) {
    if (kept) kept->Writing(first_sequence);
    ++first_sequence;
  }
  JournalPlace journal;
  auto taken = TakeSnapshot(loaded.contents.map, journal);
  if (!taken) co_return taken.error();
  Snapshot snapshot = std::move(*taken);
  status = co_await PlaceJournal(journal, first_sequence);
  if (status) status = co_await PlaceCheckpoint(snapshot);
  if (status) status = co_await Flush();
  if (!status) co_return status;
  auto guard = co_await superblock_mutex.Lock();
  if (Status s = CheckWritable(); !s) co_return s;
  Superblock next = superblock;
  next.checkpoint_chunk = snapshot.chunks.front();
  next.checkpoint_epoch = snapshot.name.epoch;
  next.journal_chunk = journal.chunks.front();
  next.journal_epoch = journal.name.epoch;
  next.journal_sequence = first_sequence;
  status = co_await WriteSuperblock(std::move(next));
  if (!status) co_return status;
  std::vector<DiskChunk> old =
      std::exchange(checkpoint_chunks, std::move(snapshot.chunks));
  for (const JournalPlace& left : journals) {
    old.insert(old.end(), left.chunks.begin(), left.chunks.end());
  }
  writer = JournalWriter(chunk_bytes(), journal,
                         JournalStart(journal.name, first_sequence));
  journals.clear();
  journals.push_back(std::move(journal));
  chunks_being_written = 0;
  UpdateReserve();
  guard.Release();
  co_return co_await GiveBack(std::move(old));
}

}  // namespace bootstream
