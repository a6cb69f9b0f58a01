#ifndef BLOCKMAP_MAP_MAP_STORE_IMPL_H_
#define BLOCKMAP_MAP_MAP_STORE_IMPL_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "blockmap/map/chain.h"
#include "blockmap/map/checkpoint.h"
#include "blockmap/map/journal.h"
#include "blockmap/map/map_load.h"
#include "blockmap/map/map_store.h"

// The inside of a MapStore; no other file includes this.
//
//   map_store.cc   changes in memory, and the public face
//   map_commit.cc  commits, the switch to a fresh journal, checkpoints
//   map_elsewhere.cc  and what the disk does not take
//   map_places.cc  superblocks and anchor
//   map_move.cc    metadata that has to make room
//   map_give_up.cc  the source's space becomes ours
//   map_settle.cc  everything is at home, and nothing of ours is left
//   map_create.cc  a new map on the disk
//   map_open.cc    a map from the disk
//   map_kept.cc    and what a dead predecessor had not made durable
//
// Invariants:
//   (1) `map` is the checkpoint, then the journals, then what a commit has
//       under way, then `pending`.
//   (2) A disk chunk of ours is free, or has exactly one user, or is reserved:
//       in `allocated` (the caller holds it), or freed by a change that is not
//       durable yet (in `freed`, or in the commit under way).
//   (3) Free plain chunks and the chunks of checkpoint and journals, live and
//       being written, together are never fewer than the budget, which is twice
//       the largest checkpoint and journal: a fresh pair can always be written,
//       and nobody else has less room while that is going on.

namespace bootstream {

// The most chunks that checkpoint and journal can take.
struct MetadataBudget {
  uint64_t checkpoint_chunks = 0;
  uint64_t journal_chunks = 0;
  // Live, and being written.
  uint64_t total() const { return 2 * (checkpoint_chunks + journal_chunks); }
};
MetadataBudget BudgetFor(const Grid& image, uint64_t region_extent_count,
                         uint32_t journal_chunks);

// Patches may take as many chunks of a checkpoint.
inline constexpr uint64_t kPatchRoomChunks = 2;

// Write `superblock` into its slot of both chunks, each durable before the
// next: a power cut tears one of them, and a chunk that joins the pair has
// nothing before the one that stays names it.
Task<Status> WriteSuperblockSlots(BlockDevice& device,
                                  const Superblock& superblock);

class MapStore::Impl {
 public:
  // Everything is free; Create and Open then claim what is used.
  Impl(BlockDevice& device, Superblock superblock, ImageFacts image,
       BlockMap map, std::vector<DiskExtent> base, bool read_only);

  static std::unique_ptr<MapStore> Wrap(std::unique_ptr<Impl> impl);

  MapLimits limits() const;
  uint32_t chunk_bytes() const { return superblock.chunk_bytes; }
  ChainName NewChain(ChainKind kind);
  // kRefused when read-only; the first failure when failed.
  Status CheckWritable() const;
  // Remember the first failure; no change is made durable from now on.
  Error Fail(const Error& error);

  // --- Changes (map_store.cc) ---
  std::optional<DiskChunk> Allocate(const PlacementWish& wish, bool use_spare);
  bool AllocateAt(DiskChunk chunk);
  void Release(DiskChunk chunk);
  void SetChunk(ImageChunk chunk, const ChunkState& state);
  void SetRelocation(DiskChunk source, std::optional<DiskChunk> now);
  void AddPatch(ImageChunk chunk, Patch patch);
  // The chunk that the caller held gets its user.
  void Occupy(DiskChunk chunk, Occupant occupant);
  // A user has left; free after the next durable commit.
  void Vacate(DiskChunk chunk);
  // For the next commit, and for whoever comes after us.
  void Note(const Record& record);

  // --- Metadata chunks (map_store.cc) ---
  // REQUIRES: so many plain chunks are free.
  std::vector<DiskChunk> TakeMetadata(uint64_t count);
  void FreeMetadata(const std::vector<DiskChunk>& chunks);
  // Chunks of checkpoint and journals have come or gone: invariant (3).
  void UpdateReserve();

  // --- Commit (map_commit.cc) ---
  // Where a checkpoint of the map, as it was at one commit, goes.
  struct Snapshot {
    ChainName name;
    std::vector<DiskChunk> chunks;
    std::vector<std::byte> bytes;
    ChainName journal;  // to replay over it, from `sequence` on
    uint64_t sequence = 0;
    bool whole_disk = false;  // the superblock that leads to it says so
  };
  struct Batch {
    uint64_t number = 0;
    RecordBatch records;
    std::vector<DiskChunk> freed;
    std::optional<uint64_t> sequence;  // of its first block, if any was written
  };
  Task<Status> Commit();
  Task<Status> Checkpoint();
  // REQUIRES: `commit_mutex` is held.  A Snapshot if a fresh journal goes on;
  // the caller must hand it to WriteCheckpoint, with the mutex released.
  enum class Fresh : uint8_t { kIfFull, kJournal, kWholeDisk };
  Task<Result<std::optional<Snapshot>>> CommitLocked(Fresh fresh);
  Task<Status> WaitForCheckpoint();
  // Chunks for a fresh journal and a checkpoint of the map `of`, with `journal`
  // to begin; kNoSpace takes nothing.
  Result<Snapshot> TakeSnapshot(const BlockMap& of, JournalPlace& journal,
                                bool whole_disk = false);
  void DropSnapshot(const Snapshot& snapshot);
  Batch TakeBatch();
  Task<Status> WriteBatch(Batch& batch);
  Task<Status> BeginJournal(JournalPlace journal);
  void MadeDurable(const Batch& batch);
  Task<Status> WriteCheckpoint(Snapshot snapshot);
  Task<Status> StoreSnapshot(Snapshot& snapshot);

  // --- What the disk does not take (map_elsewhere.cc) ---
  // What a failed flush has lost nobody knows: no change is kept from then on.
  Task<Status> Flush();
  bool MayBeElsewhere(const Error& error) const;
  // Write to the chunks of `journal` or `snapshot`, and to others where these
  // refuse; nothing leads to them yet.  Nothing is flushed.
  Task<Status> PlaceJournal(JournalPlace& journal, uint64_t first_sequence);
  Task<Status> PlaceCheckpoint(Snapshot& snapshot);
  // Another chunk instead of one that refuses; false: there is none.
  bool TakeAnother(DiskChunk& chunk);
  // Metadata chunks that leave the reserve alone, all zero now; not flushed.
  // kNoSpace, kIo: none are taken.
  Task<Result<std::vector<DiskChunk>>> TakeUnreserved(uint64_t count);
  // Make a metadata chunk zero.
  Task<Status> TryPlace(DiskChunk chunk);
  // It stays metadata until the map is opened again, or somebody claims it.
  void Quarantine(DiskChunk chunk);
  // Chunks that nothing leads to any more: free if they can be written.
  Task<Status> GiveBack(std::vector<DiskChunk> chunks);
  // The journal refuses: the map, as the disk has it, and `batch` (if not null)
  // become a fresh checkpoint with an empty journal, durably.
  // REQUIRES: `commit_mutex` is held.
  Task<Status> WriteElsewhere(Batch* batch);
  // As it was before `batch`, and that, if it is not null.
  Task<Status> LoadAgain(const Batch* batch, LoadedMap& loaded);

  // --- Superblock and anchor (map_places.cc) ---
  // REQUIRES: `superblock_mutex` is held.  kInvalid leaves all as it was.
  Task<Status> WriteSuperblock(Superblock next);
  Task<Status> UpdateSuperblock(std::function<void(Superblock&)> change);
  Task<Status> WriteAnchor(uint64_t offset);
  Task<Status> ClearAnchor();
  Task<Status> ChangeTargetTable(TableId id);
  Result<DiskChunk> TakeAnchorChunk(uint64_t offset);
  Task<Status> PutAnchor(uint64_t offset);
  Task<Status> ZeroAnchor(uint64_t offset);

  // --- Moves (map_move.cc) ---
  Task<Status> MoveMetadata(DiskChunk chunk);
  // REQUIRES: `superblock_mutex` is held.
  Task<Status> MoveManifest();
  Task<Status> MoveSuperblock(DiskChunk from);
  Task<Status> MoveAnchor();
  Task<Status> EraseStaleAnchor();
  Task<Status> EraseOldSuperblock();

  // --- The source is given up (map_give_up.cc) ---
  Task<Status> GiveUpSource();
  void NoteGivenUp(Superblock& next) const;
  // In memory, once the disk says so.
  void ForgetSource();

  // --- Settled, and gone (map_settle.cc) ---
  Task<Status> Settle();
  Status CheckSettled() const;
  // Whatever is on the disk is whole and at home.
  bool IsAllHome() const;
  Task<Status> Unsettle(DiskChunk home);
  uint64_t SettledCount() const;
  Task<Status> GoBackToCommitted();
  Task<Status> Leave();
  // Live ones and the anchor's.
  std::vector<DiskChunk> LiveMetadata() const;
  // What becomes zero besides superblock chunks and anchor.
  std::vector<ByteExtent> Leftovers() const;

  // --- Create (map_create.cc) ---
  Status TakeFirstPlaces(const CreateOptions& options);
  Task<Status> WriteFirst(const CreateOptions& options);

  // --- Open (map_open.cc) ---
  // Give every chunk its user.  kCorrupt: two want one, or it is not ours.
  Status ClaimAll();
  Status ClaimRelocations();
  Status ClaimImage();
  Status ClaimMetadata();
  void HoldJoined();
  Status Claim(DiskChunk chunk, Occupant occupant, std::string_view user);
  // What a power cut has torn must not become whole when it is written over.
  Task<Status> EraseTorn(JournalPosition end);
  Task<Status> MendSuperblocks();
  // End what a power cut has left half done.
  Task<Status> FinishOpen();
  Task<Status> MendAnchor();

  // --- Changes of a dead predecessor (map_kept.cc) ---
  // Hold the places that `records` name until they are applied.
  void HoldPlaces(const std::vector<Record>& records);
  void HoldPlace(DiskChunk chunk);
  // Make the changes again and commit.  kCorrupt: they do not fit the map.
  Task<Status> RepeatChanges(std::vector<Record> records);
  Status RepeatChange(const Record& record);

  BlockDevice& device;
  Superblock superblock;  // as it is on the disk
  ImageFacts image;
  BlockMap map;
  Region region;
  const bool read_only;
  std::optional<Error> failure;
  bool leaving = false;  // what the anchor says
  bool left = false;

  RecordBatch pending;
  std::unique_ptr<KeptChanges> kept;  // what is in `pending` and under way
  std::vector<DiskChunk> freed;
  std::unordered_set<DiskChunk> allocated;
  // Places that have joined by a relocation that is not durable yet, and the
  // number of the batch that makes it so.
  std::unordered_map<DiskChunk, uint64_t> joined;
  uint64_t batch_number = 0;  // of the next batch
  bool committing = false;    // a batch with records is on its way
  // Metadata chunks that become allocated instead of free: MoveMetadata.
  std::unordered_set<DiskChunk> claimed;
  std::unordered_set<DiskChunk> quarantine;

  std::vector<DiskChunk> checkpoint_chunks;
  std::vector<DiskChunk> manifest_chunks;
  std::vector<JournalPlace> journals;  // to replay; the last is written to
  uint64_t chunks_being_written = 0;   // of the next checkpoint and journal
  JournalWriter writer;
  uint64_t durable_sequence = 0;  // of the block after the last commit
  uint64_t next_epoch = 1;
  MetadataBudget budget;

  // Calls that wait for one commit.
  struct Group {
    Event done;
    Status status;
  };
  std::shared_ptr<Group> next_group;  // not begun yet
  AsyncSharedMutex commit_mutex;      // held from taking a batch to durable
  AsyncSharedMutex superblock_mutex;  // taken after commit_mutex, if both
  std::shared_ptr<Event> checkpoint_done;  // set: one is being written
};

}  // namespace bootstream

#endif  // BLOCKMAP_MAP_MAP_STORE_IMPL_H_
