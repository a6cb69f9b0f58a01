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

bool MapStore::Impl::TakeAnother(DiskChunk& chunk) {
  if (region.plain_free_count() == 0) return false;
  Quarantine(std::exchange(chunk, TakeMetadata(1).front()));
  return true;
}

Task<Status> MapStore::Impl::PlaceJournal(JournalPlace& journal,
                                          uint64_t first_sequence) {
  for (int tries = 1;; ++tries) {
    size_t refused = 0;
    const Status status =
        co_await WriteJournalHeaders(device, chunk_bytes(), journal.name,
                                     journal.chunks, first_sequence, &refused);
    if (status || !MayBeElsewhere(status.error()) || tries == kTriesMax ||
        !TakeAnother(journal.chunks[refused])) {
      co_return status;
    }
  }
}

Task<Status> MapStore::Impl::PlaceCheckpoint(Snapshot& snapshot) {
  for (int tries = 1;; ++tries) {
    size_t refused = 0;
    const Status status =
        co_await WriteChain(device, chunk_bytes(), snapshot.name,
                            snapshot.chunks, snapshot.bytes, &refused);
    if (status || !MayBeElsewhere(status.error()) || tries == kTriesMax ||
        !TakeAnother(snapshot.chunks[refused])) {
      co_return status;
    }
  }
}

Task<Status> MapStore::Impl::TryPlace(DiskChunk chunk) {
  const AlignedBuffer zeroes(chunk_bytes());
  co_return co_await device.Write(chunk.value * chunk_bytes(), zeroes.span());
}

void MapStore::Impl::Quarantine(DiskChunk chunk) {
  if (claimed.contains(chunk)) {
    FreeMetadata({chunk});
  } else {
    quarantine.insert(chunk);
  }
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
      Quarantine(*chunk);
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
    tried ? FreeMetadata({chunk}) : Quarantine(chunk);
  }
  co_return OkStatus();
}

Task<Status> MapStore::Impl::LoadAgain(const Batch* batch, LoadedMap& loaded) {
  // A write that failed may have come to the disk all the same, and its place
  // need not be readable: no further than what is durable.
  Status status =
      co_await LoadMap(device, superblock, loaded, durable_sequence);
  if (!status) co_return status;
  if (loaded.end.sequence != durable_sequence) {
    co_return Error{ErrorCode::kCorrupt,
                    "map: the journal has lost what was committed"};
  }
  if (batch == nullptr) co_return OkStatus();
  for (const auto& payload : batch->records.payloads()) {
    const auto records = DecodeRecords(payload);
    if (!records) co_return records.error();
    for (const Record& record : *records) {
      status = ApplyRecord(record, limits(), loaded.contents.map);
      if (!status) co_return status;
    }
  }
  co_return OkStatus();
}

Task<Status> MapStore::Impl::WriteElsewhere(Batch* batch) {
  // It writes down a state before `batch`.
  if (Status s = co_await WaitForCheckpoint(); !s) co_return s;
  {
    const auto guard = co_await superblock_mutex.Lock();
    if (Status s = co_await GoBackToCommitted(); !s) co_return s;
  }
  LoadedMap loaded;
  Status status = co_await LoadAgain(batch, loaded);
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
