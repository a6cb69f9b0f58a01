#ifndef BLOCKMAP_MAP_MAP_STORE_H_
#define BLOCKMAP_MAP_MAP_STORE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "blockmap/base/block_device.h"
#include "blockmap/base/result.h"
#include "blockmap/base/task.h"
#include "blockmap/map/block_map.h"
#include "blockmap/map/kept_changes.h"
#include "blockmap/map/region.h"
#include "blockmap/map/superblock.h"

namespace bootstream {

// What the map must know of the image to place things; filled from a manifest
// by the caller, so that `map` does not need `image`.
struct ImageFacts {
  Grid grid;
  std::function<bool(ImageChunk)> is_zero;  // zero in the manifest
  std::function<bool(ImageChunk)> is_kept;  // boot set or pinned
};

// The block map on a disk: the only writer of superblock, journal, checkpoint
// and anchor (format.md section 2, rules in section 3).  Changes are made in
// memory at once and are durable when a later Commit() has returned OK.
//
//   kOpen --metadata cannot be written--> kFailed   (left only by Open)
//
// A journal or checkpoint that takes no write goes elsewhere; a flush that
// fails, and a superblock that cannot be written, is the end.
//
// One thread; calls may overlap, and none may be under way when the store is
// destroyed.  `device` must outlive it.
class MapStore {
 public:
  struct CreateOptions {
    // Identity, image, source and strings filled in; places, epochs, sequence
    // are the store's to fill.
    Superblock superblock;
    std::vector<DiskExtent> region;        // base region, ascending
    std::vector<std::byte> manifest_file;  // stored as the manifest chain
    ImageFacts image;
    uint32_t journal_chunks = 8;  // length of a journal chain
    uint64_t spare_chunks = 16;
    // Superblocks go to the first suitable chunks of this list: the region
    // file's whole chunks in file order, which is that of a scan.
    std::vector<DiskChunk> superblock_order;
  };
  // Chunks that the store takes for itself, at most: what a plan counts besides
  // image, relocated chunks and spare ones.  Live metadata and room for writing
  // all of it anew; image chunks never get the latter.
  static uint64_t MetadataChunks(const Grid& image, uint64_t manifest_bytes,
                                 uint64_t region_extent_count,
                                 uint32_t journal_chunks = 8);

  // Lay down manifest, empty checkpoint and journal, then the superblocks.
  // Until this has returned OK there is no migration, and a scan for it may
  // meet a superblock that is torn.  A migration id of zeroes is replaced by a
  // random one.  kNoSpace: the region is too small for the metadata; kInvalid:
  // a region or sizes that make no sense.
  static Task<Result<std::unique_ptr<MapStore>>> Create(BlockDevice& device,
                                                        CreateOptions options);

  // The newest valid superblock in the slots of `chunks` / of that migration in
  // the slots of the chunks of a region file (two at the start of each), which
  // are read one after the other until there is one.  kNotFound: none.
  static Task<Result<Superblock>> ReadSuperblock(BlockDevice& device,
                                                 uint32_t chunk_bytes,
                                                 SuperblockChunks chunks);
  static Task<Result<Superblock>> ScanForSuperblock(
      BlockDevice& device, uint32_t chunk_bytes, Uuid migration_id,
      std::span<const DiskChunk> chunks);
  // The manifest file that `superblock` names; checked by the chain's
  // checksums only: Manifest::OpenPinned checks the digest.
  static Task<Result<std::vector<std::byte>>> ReadManifest(
      BlockDevice& device, const Superblock& superblock);

  // Read the checkpoint and replay the journal.  An unfinished tail is dropped.
  // kCorrupt: what the superblock vouches for is not there, or the map
  // contradicts itself (two users of one chunk, a place that is not ours).
  // With `read_only` nothing is ever written: Allocate finds nothing, Tasks end
  // in kRefused, and SetChunk, SetRelocation and AddPatch are not allowed.
  // With `kept`, changes outlive the process before they are durable: those of
  // a dead predecessor are made again, and durable, before Open returns.
  // Before the target may boot, in a phase before kArmed, the source may: then
  // the old places of relocated chunks are reserved for the caller, as after
  // SetRelocation.
  // REQUIRES: nothing that the predecessor wrote is still under way.
  static Task<Result<std::unique_ptr<MapStore>>> Open(
      BlockDevice& device, const Superblock& superblock, ImageFacts image,
      bool read_only = false, std::unique_ptr<KeptChanges> kept = nullptr);

  ~MapStore();

  const Superblock& superblock() const;
  const BlockMap& map() const;
  const Region& region() const;
  Grid disk_grid() const;  // chunk size of the image over the whole disk

  // --- Changes: in memory now, durable with the next Commit() ---

  // A chunk for `wish`, reserved; use it in SetChunk or SetRelocation, or give
  // it back with Release.  nullopt: full (`use_spare`: region.h).
  std::optional<DiskChunk> Allocate(const PlacementWish& wish,
                                    bool use_spare = false);
  bool AllocateAt(DiskChunk chunk);  // exactly this one, if it is free
  void Release(DiskChunk chunk);

  // The state of an image chunk from now on.  A disk chunk that it leaves is
  // free once a Commit() that began later has returned OK.
  // REQUIRES: a new location was allocated; dirty is a subset of valid.
  void SetChunk(ImageChunk chunk, const ChunkState& state);
  // The source's chunk is now in `now` (allocated, its content flushed by the
  // Commit that follows); its old place joins the region as reserved for the
  // caller: use it in SetChunk, or Release it after Commit.
  // nullopt: it is back in its place, which leaves the region.
  void SetRelocation(DiskChunk source, std::optional<DiskChunk> now);
  // REQUIRES: inside a block that is not valid, of a chunk that is not zero.
  void AddPatch(ImageChunk chunk, Patch patch);
  // How many bytes of patches (with 14 for each) there is still room for; a
  // writer waits for bases to arrive before it goes beyond.
  uint64_t patch_room_bytes() const;

  // Make every change up to here durable: flush (so that data written before
  // is stable), journal, flush.  Calls that overlap share one commit.  With no
  // change to record it still flushes.  A call that finds the journal full
  // returns after it has written a checkpoint; others go on meanwhile.
  // kNoSpace (a journal of this length has no place): nothing has changed and
  // the changes still wait.
  Task<Status> Commit();
  bool has_changes() const;  // not yet in a durable commit

  // Commit, then change superblock fields and make that durable.  Places,
  // epochs and sequences stay as they are whatever `change` does to them.
  Task<Status> UpdateSuperblock(const std::function<void(Superblock&)>& change);

  // Write a checkpoint and start the journal afresh, now.
  Task<Status> Checkpoint();

  // The source is given up (format.md 2.8): nothing of it is relocated any
  // more, the whole disk is the region, and the superblock says `committed`,
  // all durable in one step when this has returned OK. kInvalid: it has been
  // already.  kNoSpace: there is no room for a checkpoint and a journal. Either
  // way nothing has changed. REQUIRES: nothing is relocated from the call on.
  Task<Status> GiveUpSource();

  // What a caller has found zero, or made so: the free chunk at the home of an
  // image chunk that is zero.  Forgotten when somebody gets it.
  void NoteZeroed(DiskChunk chunk);

  // After GiveUpSource, when every image chunk is at home and whole, or zero
  // and its home noted zero: phase kSettled, durably.  It goes back to
  // kCommitted by itself, before metadata takes another place.  kUnavailable:
  // it is not so yet; nothing has changed.
  Task<Status> Settle();

  // Something is about to lie elsewhere than at its `home`, which counts as
  // zero no more; settled no longer, durably, when this has returned OK.
  Task<Status> Unsettle(DiskChunk home);
  // How many image chunks are so.
  uint64_t settled_count() const;

  // Settled: zero everything of ours on the disk, the anchor last, as one step
  // (map_leave.h).  After OK the raw disk is the image, nothing can be changed
  // any more, and a commit is a flush; nothing can be changed after an error,
  // either, but for kUnavailable (not settled).
  // REQUIRES: nobody uses the map or reads or writes the disk meanwhile.
  Task<Status> Leave();

  // Commit, then write the anchor at `offset`.  Its chunk must be free or
  // allocated, and is metadata from now on.
  Task<Status> WriteAnchor(uint64_t offset);
  // Bring the metadata in `chunk` elsewhere, whatever it is: after OK the chunk
  // is allocated for the caller, as by Allocate.  kInvalid: there is none in
  // it; kRefused: it is the anchor's; kNoSpace: nowhere to go.
  Task<Status> MoveMetadata(DiskChunk chunk);

  // The target is about to change the id of its partition table: the anchor
  // matches the old one and the new one when this has returned OK.
  Task<Status> ChangeTargetTable(const TableId& id);

  // Zero the anchor; its chunk is free then.  Without an anchor: nothing to do.
  Task<Status> ClearAnchor();

 private:
  class Impl;
  friend class Impl;
  explicit MapStore(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace bootstream

#endif  // BLOCKMAP_MAP_MAP_STORE_H_
