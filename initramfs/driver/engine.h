#ifndef INITRAMFS_DRIVER_ENGINE_H_
#define INITRAMFS_DRIVER_ENGINE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "blockmap/base/block_device.h"
#include "blockmap/base/block_service.h"
#include "blockmap/base/executor.h"
#include "blockmap/image/chunk_source.h"
#include "blockmap/image/manifest.h"
#include "blockmap/map/map_store.h"
#include "initramfs/driver/chunk_locks.h"
#include "initramfs/driver/engine_statistics.h"
#include "initramfs/driver/first_reads.h"
#include "initramfs/driver/read_ahead.h"
#include "initramfs/driver/recovery_set.h"
#include "initramfs/driver/room_queue.h"

namespace bootstream {

// The streaming block device: the target image, of which every block is where
// the map says, or zero, or fetched when it is first read.  No front end, no
// network and no clock of its own.
//
// How the invariants of the design are kept here:
//  2. Only ChunkSource hands out bytes of the image, and it has checked them.
//  3. A clean valid block is overwritten only after its dirty bit is durable;
//     a download is stored only into blocks that are not valid.
//  4. Flush is MapStore::Commit: data, flush, journal, flush.
//  6. A download is recorded lazily; a demand miss is always answered, and
//     stored if a free or clean chunk can be found.
//  8. One download at a time for a chunk; a write waits for the disk only, and
//     where the region is full for room.
//  A clean block that cannot be read is forgotten, durably, and fetched again;
//  what only the disk has is an I/O error (heal.cc).
//
// One thread, the executor's.  Everything given must outlive the engine; no
// call may be under way when it is destroyed.
class StreamEngine final : public BlockService {
 public:
  struct Options {
    // A change that no flush asks for is committed after this long.
    Executor::Duration commit_delay = std::chrono::seconds(1);
    // Nothing is stored or written; for looking at a disk.
    bool read_only = false;
    // What is read in sequence is fetched so far ahead; 0: nothing is.
    uint64_t read_ahead_bytes = 0;
    // A disk that is further behind with storing what has come is waited for,
    // and nothing more is read ahead.
    uint64_t unstored_bytes_max = uint64_t{16} << 20;
    // Hears of each thing that went wrong with the disk, with its address.
    std::function<void(const std::string&)> report = {};
  };

  StreamEngine(Executor& executor, BlockDevice& device, MapStore& store,
               ChunkSource& source, std::shared_ptr<const Manifest> manifest,
               Options options);
  ~StreamEngine() override;

  uint64_t size_bytes() const override { return grid_.size_bytes; }
  Task<Status> Read(uint64_t offset, std::span<std::byte> out) override;
  Task<Status> Write(uint64_t offset, std::span<const std::byte> data,
                     bool fua) override;
  Task<Status> Flush() override;
  Task<Status> Discard(uint64_t offset, uint64_t size) override;
  Task<Status> WriteZeroes(uint64_t offset, uint64_t size, bool fua) override;

  // Bring the missing blocks of `chunk` to the disk.  OK if there is nothing to
  // do; kNoSpace: the region is full and nothing may be evicted for it.
  Task<Status> Hydrate(ImageChunk chunk, FetchClass fetch_class);
  // While what will be read is known, nothing is read ahead.
  void TurnGuessesOff(bool off) { guesses_off_ = off; }
  // Whether some block of `chunk` is neither on the disk nor known to be zero.
  bool IsMissing(ImageChunk chunk) const;
  // Whether some session may give it up for room: it is clean, and neither in
  // the boot set nor pinned.
  bool IsExpendable(ImageChunk chunk, const ChunkState& state) const;
  // Whether this one may: it is not in the recovery set either.
  bool MayEvict(ImageChunk chunk, const ChunkState& state) const;

  // Chunks that are read, or have been read since the start, join the recovery
  // set until CloseRecoverySet.  At most half of what is free or can be evicted
  // now does.
  void OpenRecoverySet();
  void CloseRecoverySet() { recovery_set_.Close(); }
  // False: everything is on the disk, and has room there whatever is written.
  bool NeedsRecoverySet() const;
  // As an earlier driver has left it.
  void RestoreRecoverySet(RecoverySet set) { recovery_set_ = std::move(set); }
  const RecoverySet& recovery_set() const { return recovery_set_; }
  // A boot-set chunk at home is the truth even if firmware or a boot loader
  // wrote to it before we ran: if it does not match the manifest any more, its
  // blocks are dirty from now on.
  Task<Status> AuditBootChunk(ImageChunk chunk);

  enum class CheckResult : uint8_t {
    kNothing,     // no data, or not on the disk
    kGood,        // it is what the manifest says
    kNotClean,    // written to, or not all there: the manifest does not tell
    kTouched,     // boot set or pinned, at home, and differs: it is the truth
    kMended,      // it was wrong, and was fetched again
    kUnreadable,  // wrong or unreadable, and only the disk has it
  };
  // Compare a clean chunk on the disk with the manifest, and mend it.  Waits
  // for the server if it must.
  Task<Result<CheckResult>> CheckChunk(ImageChunk chunk);

  // The source's space is the target's from now on, durably (MapStore).
  Task<Status> GiveUpSource();
  // Writes that have found the region full.
  const RoomQueue& room() const { return room_; }
  // From now on they end in kNoSpace.
  void RefuseWithoutRoom() { room_.Close(); }
  // From now on writes go home, as those to pinned chunks always have, and what
  // becomes zero is zero on the disk too.
  void GoHome() { going_home_ = true; }
  bool goes_home(ImageChunk chunk) const {
    return going_home_ || manifest_->IsPinned(chunk);
  }
  // Whether `chunk` is whole and at home, or zero and its home known to be, or
  // zero where metadata lies.
  bool IsSettled(ImageChunk chunk) const;
  // Make it so.  kUnavailable: not now (it is not all there, or its home is
  // changing hands).  Of use after GoHome only.
  Task<Status> SettleChunk(ImageChunk chunk);

  // Bring `chunk` home, whole, to stay: the boot loader reads it there.  Waits
  // for the server if it must.  kNoSpace: the region is full.
  Task<Status> BringHome(ImageChunk chunk);
  // Whether that is so for `blocks` (a mask) of it.
  bool IsHomeToStay(ImageChunk chunk, uint64_t blocks) const;

  // Commit what is pending and wait until nothing is under way: no download, no
  // audit, check or commit of our own.  Requests of others are theirs to end.
  Task<Status> Drain();

  // What was asked for, by whoever reads the device, since the start.
  const FirstReads& first_reads() const { return first_reads_; }
  const EngineStatistics& statistics() const { return statistics_; }
  // When the oldest demand that has no answer yet began to wait; none waits:
  // nullopt.
  std::optional<Executor::Duration> waiting_since() const;
  // Whether somebody's read or write is at the disk just now.
  bool disk_in_use() const { return !at_disk_.none(); }
  const MapStore& store() const { return store_; }
  const Manifest& manifest() const { return *manifest_; }

 private:
  // With more downloads than these under way nothing is read ahead.
  static constexpr size_t kFlightsMax = 640;

  // A download under way and all who wait for it.
  struct Flight {
    Event arrived;  // `content` is there, or it has failed
    Event done;     // and it is on the disk, or could not be stored
    Status status;
    bool failed = false;  // to arrive; else `content` is there
    bool demanded = false;
    Executor::Duration demanded_at{0};
    AlignedBuffer content;
  };
  // The part of a request that lies in one chunk; bytes from its start.
  struct Piece {
    ImageChunk chunk;
    uint32_t begin = 0;
    uint32_t end = 0;
  };

  template <typename Visit>
  void ForEachPiece(uint64_t offset, uint64_t size, Visit visit) const;
  std::optional<Piece> OnlyPiece(uint64_t offset, uint64_t size) const;
  uint64_t BlocksOf(const Piece& piece) const;         // touched
  uint64_t CoveredBlocksOf(const Piece& piece) const;  // whole
  uint64_t MissingBlocks(ImageChunk chunk, const ChunkState& state) const;
  uint64_t DiskOffset(DiskChunk chunk) const {
    return chunk.value * grid_.chunk_bytes;
  }

  // read_path.cc
  void NoteRead(uint64_t offset, uint64_t size);
  void FetchAhead(uint64_t offset, uint64_t size);
  void KeepRead(uint64_t first, uint64_t last);  // recovery.cc
  Task<Status> ReadPieces(uint64_t offset, std::span<std::byte> out);
  Task<Status> ReadPiece(Piece piece, std::span<std::byte> out);
  Task<Status> ReadLocal(Piece piece, const ChunkState& state,
                         const Flight* flight, std::span<std::byte> out);
  Task<Status> ReadDisk(uint64_t offset, std::span<std::byte> out);
  Task<Status> ReadBlocks(DiskChunk place, uint64_t blocks,
                          std::span<std::byte> content);
  Task<bool> IsLost(ImageChunk chunk, const ChunkState& state, uint64_t blocks);
  Task<Status> ReadHealed(Piece piece, uint64_t wanted, Status failure,
                          std::span<std::byte> out);
  bool IsTruth(ImageChunk chunk, const ChunkState& state) const;
  Task<Status> DropUnreadable(ImageChunk chunk, const Status& failure,
                              bool bad_place);
  Task<Status> DropClean(ImageChunk chunk, bool bad_place);
  Task<Status> ReopenPhase(ImageChunk chunk);
  Task<void> ClosePhase(ImageChunk chunk);
  Task<Result<bool>> IsAsInManifest(ImageChunk chunk, const ChunkState& state);
  void Quarantine(DiskChunk place);
  bool IsBadPlace(DiskChunk place) const;
  Status Fail(ImageChunk chunk, const ChunkState& state, const char* what,
              Status status);

  // hydrate.cc
  std::shared_ptr<Flight> StartFlight(ImageChunk chunk, FetchClass fetch_class);
  Task<void> RunFlight(ImageChunk chunk, FetchClass fetch_class,
                       std::shared_ptr<Flight> flight);
  Task<Status> Store(ImageChunk chunk, Flight& flight);
  std::span<const std::byte> Merged(ImageChunk chunk, uint64_t blocks,
                                    const Flight& flight,
                                    AlignedBuffer& merged) const;
  Task<std::optional<DiskChunk>> PlaceFor(ImageChunk chunk, bool must);
  Task<bool> EvictOne();
  bool HasRoom() const;

  // settle_chunk.cc
  Task<Status> FillHome(ImageChunk chunk, ChunkState state);
  Task<Status> ZeroHome(ImageChunk chunk);
  bool IsZeroAtHome(ImageChunk chunk) const;

  // write_path.cc
  Task<Status> WritePieces(uint64_t offset, std::span<const std::byte> data,
                           bool fua);
  Task<Status> WritePiece(Piece piece, std::span<const std::byte> data);
  Task<Status> WriteTableHead(Piece piece, std::span<const std::byte> data);
  Task<Status> WriteAnywhere(Piece piece, std::span<const std::byte> data);
  Task<Status> WriteExclusive(Piece piece, std::span<const std::byte> data);
  Task<Status> AwaitRoom(std::optional<RoomQueue::Turn>& turn);
  Task<Result<bool>> TakePlace(const Piece& piece, ChunkState& state);
  Task<Status> Intend(const Piece& piece, ChunkState& state);
  Task<Status> Overwrite(const Piece& piece, ChunkState state,
                         std::span<const std::byte> data);
  Task<Status> WriteEdge(ImageChunk chunk, const ChunkState& state,
                         uint32_t begin, std::span<const std::byte> data);
  Task<Status> WriteDisk(uint64_t offset, std::span<const std::byte> data);
  Task<Status> FillZeroes(DiskChunk place, ImageChunk chunk);
  Task<Status> ZeroPiece(Piece piece);
  Task<Status> ForgetContent(ImageChunk chunk);

  // pinned.cc
  Task<Status> MakeHome(ImageChunk chunk);
  Status GiveUpHome(ImageChunk chunk, Status failure);
  Task<Result<bool>> TakeFromSource(DiskChunk home);
  bool HasClean(ImageChunk chunk, const ChunkState& state) const;
  Task<Status> ClearHome(ImageChunk chunk);
  Task<bool> EvictFor(const Status& failure);
  Task<Status> MoveImageChunk(ImageChunk chunk);

  void CommitSoon();
  Task<void> RunLazyCommit();

  Executor& executor_;
  BlockDevice& device_;
  MapStore& store_;
  ChunkSource& source_;
  std::shared_ptr<const Manifest> manifest_;
  Options options_;
  Grid grid_;
  ChunkLocks locks_;
  RoomQueue room_;
  std::unordered_map<ImageChunk, std::shared_ptr<Flight>> flights_;
  // Of downloads that have arrived and are on their way to the disk.
  uint64_t unstored_bytes_ = 0;
  ReadAhead read_ahead_;
  bool guesses_off_ = false;
  bool going_home_ = false;
  FirstReads first_reads_;
  RecoverySet recovery_set_;
  ImageChunk evict_cursor_;
  AsyncSharedMutex table_mutex_;   // writes to the first sectors
  AsyncSharedMutex source_mutex_;  // shared: a chunk of it is being relocated
  // Places that did not take what was written to them, kept from being used
  // again until the next start.
  std::vector<DiskChunk> bad_places_;
  // Chunks that were dropped from an image that was complete.
  std::unordered_set<ImageChunk> reopened_;
  bool commit_scheduled_ = false;
  UnderWay in_background_;  // but for downloads
  UnderWay at_disk_;        // reads and writes of others
  EngineStatistics statistics_;
  // Set false by the destructor: timers that fire later do nothing.
  std::shared_ptr<bool> alive_;
};

template <typename Visit>
void StreamEngine::ForEachPiece(uint64_t offset, uint64_t size,
                                Visit visit) const {
  const uint64_t end = offset + size;
  for (uint64_t at = offset; at < end;) {
    const uint64_t chunk = at / grid_.chunk_bytes;
    const uint64_t start = grid_.offset_of(chunk);
    const uint64_t stop = std::min<uint64_t>(end, start + grid_.chunk_bytes);
    visit(Piece{ImageChunk{chunk}, static_cast<uint32_t>(at - start),
                static_cast<uint32_t>(stop - start)},
          at - offset);
    at = stop;
  }
}

}  // namespace bootstream

#endif  // INITRAMFS_DRIVER_ENGINE_H_
