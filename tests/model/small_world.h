#ifndef TESTS_MODEL_SMALL_WORLD_H_
#define TESTS_MODEL_SMALL_WORLD_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "blockmap/map/map_store.h"
#include "tests/model/reference.h"
#include "tests/support/disk_image.h"

namespace bootstream {

class Manifest;

// A disk and an image so small that everything that can happen to them can be
// tried, and what may happen.
//
// The image has five chunks of 64 KiB: 0 is the boot set, at home; 1 is pinned;
// 2 is zero; 3 and 4 are plain, and 4 has two blocks only.  The disk has 36
// chunks.  The region is chunk 3 and a few at the end of the disk, the anchor's
// among them; all else is the source's, of which chunks 0 and 5 are relocated.
struct SmallDisk {
  static constexpr uint32_t kChunk = 64 * 1024;
  static constexpr uint64_t kDiskChunks = 36;
  static constexpr uint64_t kImageBytes = 4 * kChunk + 2 * kBlockBytes;
  static constexpr uint64_t kAnchorOffset = uint64_t{32} * kChunk;
};

// One thing that is done to the engine or the map.
struct Operation {
  enum class Kind : uint8_t {
    kRead,
    kWrite,
    kZero,
    kDiscard,
    kFlush,
    kHydrate,
    kAudit,
    kCheckpoint,
    kMoveJournal,
    kMoveManifest,
    kMoveSuperblock,
    kRelocate,  // source chunk 6, as an agent or a pinned write does
    kRestore,   // source chunk 5
  };
  std::string name;
  Kind kind = Kind::kFlush;
  uint64_t offset = 0;
  uint64_t size = 0;
  bool fua = false;
  bool changes() const {
    return kind == Kind::kWrite || kind == Kind::kZero ||
           kind == Kind::kDiscard;
  }
};

// A state of the disk to begin from.
struct Setup {
  std::string name;
  std::vector<DiskExtent> region;
  std::vector<std::string> steps;  // names of operations, done one by one
  uint32_t commits = 0;            // more of them, to fill the journal
  bool is_tight = false;           // "the region is full" is an answer here
};

class SmallWorld {
 public:
  struct Start {
    Setup setup;
    DiskImage disk{0};
    std::vector<std::byte> image;  // what the target reads
    // Where each chunk of the source is; it has been looked at there.
    std::vector<DiskChunk> places;
  };

  // Makes every setup.  Aborts where that fails: then nothing works at all.
  SmallWorld();

  const std::vector<Operation>& operations() const { return operations_; }
  // nullptr: no such thing.
  const Operation* FindOperation(std::string_view name) const;
  const Start* FindStart(std::string_view name) const;
  const std::vector<Start>& starts() const { return starts_; }

  std::shared_ptr<const Manifest> manifest() const { return manifest_; }
  const std::vector<std::byte>& image() const { return image_; }
  const std::vector<std::byte>& source_disk() const { return source_disk_; }
  ImageFacts Facts() const;
  // What a write, number `number` of its run, puts on the disk.
  static std::vector<std::byte> DataOf(const Operation& op, int number);
  ContentTable& contents() { return contents_; }

  // What a disk in order must be whatever the target has done: every map entry
  // and the source's bytes; empty, or why it is not.
  // `disk` has `start.disk` as its base.
  std::string CheckDisk(const Start& start, const DiskImage& disk,
                        const MapStore& store) const;

 private:
  Start Make(const Setup& setup);
  std::string CheckSource(const Start& start, const DiskImage& disk,
                          const MapStore& store) const;
  std::string CheckChunk(const DiskImage& disk, ImageChunk chunk,
                         const ChunkState& state) const;

  std::vector<std::byte> image_;
  std::vector<std::byte> manifest_file_;
  std::shared_ptr<const Manifest> manifest_;
  std::vector<std::byte> source_disk_;
  std::vector<Operation> operations_;
  std::vector<Start> starts_;
  ContentTable contents_;
};

}  // namespace bootstream

#endif  // TESTS_MODEL_SMALL_WORLD_H_
