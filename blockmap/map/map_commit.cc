#include <algorithm>
#include <cassert>
#include <string>
#include <utility>

#include "blockmap/map/map_store_impl.h"

namespace bootstream {

Task<Status> MapStore::Impl::Commit() {
  if (left) co_return co_await device.Flush();
  if (Status s = CheckWritable(); !s) co_return s;
  if (next_group) {
    const std::shared_ptr<Group> group = next_group;
    co_await group->done;
    co_return group->status;
  }
  const auto group = std::make_shared<Group>();
  next_group = group;
  auto guard = co_await commit_mutex.Lock();
  // Who comes from now on may have changes that this commit does not take.
  next_group.reset();
  Result<std::optional<Snapshot>> done = co_await CommitLocked(Fresh::kIfFull);
  guard.Release();
  if (!done) group->status = done.error();
  group->done.Set();
  if (done && done->has_value()) {
    // An error is the next call's: this commit is durable.
    (void)co_await WriteCheckpoint(std::move(**done));
  }
  co_return group->status;
}

Task<Status> MapStore::Impl::Checkpoint() {
  if (Status s = CheckWritable(); !s) co_return s;
  auto guard = co_await commit_mutex.Lock();
  Result<std::optional<Snapshot>> done = co_await CommitLocked(Fresh::kJournal);
  guard.Release();
  if (!done) co_return done.error();
  if (!done->has_value()) co_return OkStatus();  // it has become one
  co_return co_await WriteCheckpoint(std::move(**done));
}

Task<Result<std::optional<MapStore::Impl::Snapshot>>>
MapStore::Impl::CommitLocked(Fresh fresh) {
  if (Status s = CheckWritable(); !s) co_return s.error();
  bool fresh_journal = fresh != Fresh::kIfFull;
  if (fresh_journal || pending.block_count() > writer.room()) {
    if (Status s = co_await WaitForCheckpoint(); !s) co_return s.error();
    if (superblock.phase == Phase::kSettled) {
      const auto guard = co_await superblock_mutex.Lock();
      if (Status s = co_await GoBackToCommitted(); !s) co_return s.error();
    }
    fresh_journal = fresh_journal || pending.block_count() > writer.room();
  }
  std::optional<Snapshot> snapshot;
  JournalPlace journal;
  if (fresh_journal) {
    auto taken = TakeSnapshot(map, journal, fresh == Fresh::kWholeDisk);
    if (!taken) co_return taken.error();
    snapshot = std::move(*taken);
    checkpoint_done = std::make_shared<Event>();
  }
  // Nobody has run since the journal's room was looked at: no wait until the
  // batch is taken.  And the batch is taken before the flush that makes the
  // data durable which its records speak of.
  Batch batch = TakeBatch();
  committing = !batch.records.empty();
  Status status;
  if (fresh_journal) {
    status = co_await BeginJournal(std::move(journal));
  } else {
    status = co_await Flush();
  }
  if (status) status = co_await WriteBatch(batch);
  if (!status && MayBeElsewhere(status.error())) {
    if (snapshot) DropSnapshot(*std::exchange(snapshot, std::nullopt));
    const Status elsewhere = co_await WriteElsewhere(&batch);
    if (elsewhere) status = OkStatus();
  }
  committing = false;
  if (!status) {
    const Error error = Fail(status.error());
    if (snapshot) std::exchange(checkpoint_done, nullptr)->Set();
    co_return error;
  }
  MadeDurable(batch);
  if (snapshot) snapshot->sequence = writer.next_sequence();
  co_return snapshot;
}

Task<Status> MapStore::Impl::WaitForCheckpoint() {
  if (checkpoint_done) {
    const std::shared_ptr<Event> running = checkpoint_done;
    co_await *running;
  }
  co_return CheckWritable();
}

Result<MapStore::Impl::Snapshot> MapStore::Impl::TakeSnapshot(
    const BlockMap& of, JournalPlace& journal, bool whole_disk) {
  const std::vector<DiskExtent> whole = {{0, limits().disk.chunk_count()}};
  const auto& base = whole_disk ? whole : region.base();
  const uint64_t checkpoint_count = ChainChunksFor(
      CheckpointBytes(of, base.size(), !whole_disk), chunk_bytes());
  // Long enough that checkpoints stay few where they are large.
  const uint64_t blocks_each = JournalBlocks(1, chunk_bytes());
  const uint64_t least =
      (pending.block_count() + 1 + blocks_each - 1) / blocks_each;
  uint64_t journal_count = std::max<uint64_t>(
      {least, superblock.journal_chunks, checkpoint_count / 4});
  if (region.plain_free_count() < checkpoint_count + journal_count) {
    journal_count = least;
  }
  if (region.plain_free_count() < checkpoint_count + journal_count) {
    return Error{ErrorCode::kNoSpace, "map: no room for a journal of " +
                                          std::to_string(journal_count) +
                                          " chunks and a " + "checkpoint of " +
                                          std::to_string(checkpoint_count)};
  }
  Snapshot snapshot;
  journal.name = snapshot.journal = NewChain(ChainKind::kJournal);
  journal.chunks = TakeMetadata(journal_count);
  snapshot.name = NewChain(ChainKind::kCheckpoint);
  snapshot.chunks = TakeMetadata(checkpoint_count);
  snapshot.bytes = EncodeCheckpoint(of, base, !whole_disk);
  snapshot.whole_disk = whole_disk;
  chunks_being_written = checkpoint_count + journal_count;
  UpdateReserve();
  return snapshot;
}

// Nothing leads to its places, and nothing has been written there.
void MapStore::Impl::DropSnapshot(const Snapshot& snapshot) {
  FreeMetadata(snapshot.chunks);
  chunks_being_written = 0;
  UpdateReserve();
  std::exchange(checkpoint_done, nullptr)->Set();
}

MapStore::Impl::Batch MapStore::Impl::TakeBatch() {
  Batch batch;
  batch.number = batch_number++;
  batch.records = std::exchange(pending, RecordBatch());
  batch.freed = std::exchange(freed, {});
  if (kept) kept->BeginBatch();
  return batch;
}

Task<Status> MapStore::Impl::WriteBatch(Batch& batch) {
  if (batch.records.empty()) co_return OkStatus();
  batch.sequence = writer.next_sequence();
  if (kept) kept->Writing(*batch.sequence);
  if (Status s = co_await writer.Append(device, batch.records); !s) co_return s;
  co_return co_await Flush();
}

// The new journal's headers, then the record that leads to it.  The record is
// durable before a block of the new journal is written: a journal that nothing
// leads to must hold nothing, since its epoch may be given again.
Task<Status> MapStore::Impl::BeginJournal(JournalPlace journal) {
  const uint64_t first_sequence = writer.next_sequence() + 1;
  Status status = co_await PlaceJournal(journal, first_sequence);
  chunks_being_written -= journal.chunks.size();
  journals.push_back(journal);
  UpdateReserve();
  if (status) status = co_await Flush();
  if (!status) co_return status;
  // Before the end of what is durable moves on.
  if (kept) kept->Writing(first_sequence);
  RecordBatch last;
  last.Add(ContinueRecord{journal.name.epoch, journal.chunks.front()});
  status = co_await writer.Append(device, last);
  if (status) status = co_await Flush();
  if (!status) co_return status;
  writer = JournalWriter(chunk_bytes(), journal,
                         JournalStart(journal.name, first_sequence));
  durable_sequence = first_sequence;
  co_return status;
}

void MapStore::Impl::MadeDurable(const Batch& batch) {
  durable_sequence = writer.next_sequence();
  if (kept) kept->Durable();
  for (const DiskChunk chunk : batch.freed) region.Free(chunk);
  std::erase_if(joined, [&batch](const auto& place) {
    return place.second <= batch.number;
  });
}

Task<Status> MapStore::Impl::WriteCheckpoint(Snapshot snapshot) {
  Status status = co_await StoreSnapshot(snapshot);
  if (!status) status = Fail(status.error());
  std::exchange(checkpoint_done, nullptr)->Set();
  co_return status;
}

Task<Status> MapStore::Impl::StoreSnapshot(Snapshot& snapshot) {
  Status status = co_await PlaceCheckpoint(snapshot);
  if (status) status = co_await Flush();
  if (!status) co_return status;
  const auto guard = co_await superblock_mutex.Lock();
  if (Status s = CheckWritable(); !s) co_return s;
  const auto is_kept = [&snapshot](const JournalPlace& journal) {
    return journal.name.epoch >= snapshot.journal.epoch;
  };
  const auto kept = std::find_if(journals.begin(), journals.end(), is_kept);
  assert(kept != journals.end() && kept->name == snapshot.journal);
  Superblock next = superblock;
  next.checkpoint_chunk = snapshot.chunks.front();
  next.checkpoint_epoch = snapshot.name.epoch;
  next.journal_chunk = kept->chunks.front();
  next.journal_epoch = kept->name.epoch;
  next.journal_sequence = snapshot.sequence;
  if (snapshot.whole_disk) NoteGivenUp(next);
  status = co_await WriteSuperblock(std::move(next));
  if (!status) co_return status;
  const auto first_kept =
      std::find_if(journals.begin(), journals.end(), is_kept);
  for (auto old = journals.begin(); old != first_kept; ++old) {
    FreeMetadata(old->chunks);
  }
  journals.erase(journals.begin(), first_kept);
  FreeMetadata(std::exchange(checkpoint_chunks, snapshot.chunks));
  chunks_being_written = 0;
  UpdateReserve();
  co_return status;
}

}  // namespace bootstream
