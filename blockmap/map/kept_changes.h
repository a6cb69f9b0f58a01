#ifndef BLOCKMAP_MAP_KEPT_CHANGES_H_
#define BLOCKMAP_MAP_KEPT_CHANGES_H_

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "blockmap/base/result.h"
#include "blockmap/base/types.h"
#include "blockmap/base/unique_fd.h"
#include "blockmap/map/journal.h"
#include "blockmap/map/superblock.h"

namespace bootstream {

// Changes of the map that no commit has made durable yet, in memory that
// outlives the process (memfd_create(2), held by somebody else too).
//
// A write that was answered and not flushed may be lost with the power, for
// whoever wrote it knows that and flushes; but not with the process, for the
// kernel above believes that a disk's cache dies with the power only.  Its data
// is on the disk, and the record that says where, is here.
//
// Two logs take turns: one belongs to the commit under way, the other takes new
// changes.  Only stores of the process count, in their order, so there is
// nothing to flush and no checksum: whoever is killed between two stores leaves
// a log that is whole up to its length.  One thread; one process at a time.
class KeptChanges {
 public:
  // The file behind `file`: of `migration_id`, or empty and then made so.
  // kCorrupt: something else.
  static Result<std::unique_ptr<KeptChanges>> Open(UniqueFd file,
                                                   const Uuid& migration_id);
  ~KeptChanges();
  KeptChanges(const KeptChanges&) = delete;
  KeptChanges& operator=(const KeptChanges&) = delete;

  // The changes of a dead predecessor that the journal, whose next block would
  // have `next_sequence`, does not have; oldest first.  They stay until the
  // first Durable(), and so Add must not be called for them again.
  Result<std::vector<Record>> Recover(uint64_t next_sequence);

  // Keep a change.  kNoSpace: there is no memory for it.
  Status Add(const Record& record);
  // A commit takes all changes up to here: later ones are apart.
  void BeginBatch();
  // Its first journal block, of this sequence, is about to be written.
  void Writing(uint64_t sequence);
  // It is durable: its changes are forgotten.
  void Durable();

 private:
  struct Log;
  struct Header;
  // Where a log's bytes are mapped; grown as needed.
  struct Window {
    std::byte* data = nullptr;
    uint64_t capacity = 0;
  };
  explicit KeptChanges(UniqueFd file) : file_(std::move(file)) {}
  Status MapHeader(const Uuid& migration_id);
  Status Reserve(int index, uint64_t bytes);
  Log& log(int index);
  void Clear(int index);

  UniqueFd file_;
  Header* header_ = nullptr;
  std::array<Window, 2> windows_;
  int active_ = 0;                  // takes new changes
  std::array<bool, 2> in_batch_{};  // belong to the commit under way
  bool recovering_ = false;         // what Recover gave is not durable yet
};

}  // namespace bootstream

#endif  // BLOCKMAP_MAP_KEPT_CHANGES_H_
