#ifndef TESTS_CRASH_STREAM_SESSION_H_
#define TESTS_CRASH_STREAM_SESSION_H_

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "blockmap/map/map_store.h"
#include "initramfs/driver/backfill.h"
#include "initramfs/driver/engine.h"
#include "tests/support/fake_chunk_source.h"
#include "tests/support/test_executor.h"

namespace bootstream {

// The driver's core over a disk, opened as the driver opens it: by its anchor,
// with the manifest from the region.  Time stands still but for Advance.
class StreamSession {
 public:
  // With `starts` the superblock counts a boot, as when the driver serves.
  // `image` must outlive the session.  `superblock`: if it is found by other
  // means than the anchor.
  struct Options {
    bool read_only = false;
    bool starts = true;
    std::optional<Superblock> superblock;
  };
  static Result<std::unique_ptr<StreamSession>> Open(
      BlockDevice& device, const std::vector<std::byte>& image,
      Options options);
  ~StreamSession();

  StreamEngine& engine() { return *engine_; }
  MapStore& store() { return *store_; }
  const Manifest& manifest() const { return *manifest_; }
  FakeChunkSource& source() { return *source_; }
  TestExecutor& executor() { return executor_; }

  // Run `task` to its end over a device that completes inside Submit; timers
  // run as they are needed.
  Status Finish(Task<Status> task);
  // The whole image, a chunk at a time.
  using Visit =
      std::function<void(uint64_t offset, std::span<const std::byte> content)>;
  Status ReadEach(const Visit& visit);
  Result<std::vector<std::byte>> ReadAll();
  // Backfill until the image is complete or the region is full.
  Backfill::State BackfillToEnd();

 private:
  StreamSession() = default;
  Task<Status> DoOpen(BlockDevice& device, const std::vector<std::byte>& image,
                      Options options);

  TestExecutor executor_;
  std::shared_ptr<const Manifest> manifest_;
  std::unique_ptr<MapStore> store_;
  std::unique_ptr<FakeChunkSource> source_;
  std::unique_ptr<StreamEngine> engine_;
};

}  // namespace bootstream

#endif  // TESTS_CRASH_STREAM_SESSION_H_
