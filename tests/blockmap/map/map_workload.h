#ifndef TESTS_BLOCKMAP_MAP_MAP_WORKLOAD_H_
#define TESTS_BLOCKMAP_MAP_MAP_WORKLOAD_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "blockmap/base/unique_fd.h"
#include "blockmap/map/map_store.h"
#include "tests/support/crash_device.h"
#include "tests/support/map_fixture.h"

namespace bootstream {

// What must be true of the disk at one commit: the map, and which bytes are in
// the chunks that it names.
struct Truth {
  std::string map;                          // Describe()
  std::map<ImageChunk, uint64_t> versions;  // of the chunks on the disk
  uint64_t boots = 0;
  bool source_kept = true;
  bool operator==(const Truth&) const = default;
};

// A random life of a map, from a seed: downloads, writes, discards, evictions,
// relocations and their way back, patches, commits, checkpoints, superblock
// updates, the anchor; with an even seed the source is given up some time.
// Every chunk of data begins with a stamp that says what
// it is, so that a lost, early or misplaced write shows.
class MapWorkload {
 public:
  MapWorkload(CrashDevice& device, uint64_t seed)
      : device_(device), random_(seed), gives_up_(seed % 2 == 0) {}

  // The source's bytes on a fresh disk.
  static DiskImage SourceDisk();

  // Create the map; false: the disk failed.
  bool Create();
  // Do `steps` random things; false: the disk failed, and what is on it is one
  // of candidates().
  bool Run(uint64_t steps);
  // Forget everything in memory and open what is on the disk, which must be
  // one of candidates(); the reason why not, or nothing.
  std::string Reopen();
  // One step, whichever; false as for Run.
  bool Commit();
  bool Checkpoint();

  bool HoldsSuperblock(DiskChunk chunk) const;
  // The journal that the next commit is written to, or the first of more.
  DiskChunk journal_chunk() const { return store_->superblock().journal_chunk; }
  // From now on what is done outlives the process; false: the disk failed.
  bool KeepChanges();
  // The process ends and the next one opens the map: everything that was done
  // is there, committed or not; the reason why not, or nothing.
  std::string RestartProcess();

  // What may be there after a crash now: the last commit that returned OK or
  // the one that was under way.
  std::vector<Truth> candidates() const;
  // Whether the map that `device` holds is one of `candidates`, with all the
  // bytes where it says; the reason why not, or nothing.
  static std::string Check(BlockDevice& device,
                           const std::vector<Truth>& candidates);

 private:
  using Step = bool (MapWorkload::*)();

  bool Download();
  bool Rewrite();
  bool Discard();
  bool Evict();
  bool Relocate();
  bool Restore();
  bool Patch();
  bool Update();
  bool Anchor();
  bool Move();
  bool GiveUp();

  bool Change(const std::function<Task<Status>()>& call, uint64_t boots);
  bool Put(ImageChunk chunk, DiskChunk at, uint64_t dirty);
  bool Copy(DiskChunk from, DiskChunk to);
  std::optional<ImageChunk> AnyOnDisk();
  Truth Now() const;
  Result<std::unique_ptr<KeptChanges>> OpenKept() const;

  CrashDevice& device_;
  std::mt19937_64 random_;
  const bool gives_up_;
  std::unique_ptr<MapStore> store_;
  uint64_t version_ = 0;
  std::map<ImageChunk, uint64_t> versions_;
  uint64_t boots_ = 0;
  bool created_ = false;
  Truth committed_;
  std::vector<Truth> attempted_;
  UniqueFd kept_;  // what the keeper holds
};

}  // namespace bootstream

#endif  // TESTS_BLOCKMAP_MAP_MAP_WORKLOAD_H_
