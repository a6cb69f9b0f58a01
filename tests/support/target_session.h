#ifndef TESTS_SUPPORT_TARGET_SESSION_H_
#define TESTS_SUPPORT_TARGET_SESSION_H_

#include <memory>
#include <vector>

#include "blockmap/base/block_device.h"
#include "bootagent/locate.h"
#include "initramfs/driver/engine.h"
#include "tests/support/fake_chunk_source.h"
#include "tests/support/test_executor.h"

namespace bootstream {

// A boot of the target from an armed disk, as far as its disk is concerned: the
// driver's engine over the map that the agent has laid down.  Ends as kill -9
// does, unless Shutdown() was called.
class TargetSession {
 public:
  // Aborts if the disk is not armed.  All that is given must outlive it.
  TargetSession(BlockDevice& device, const std::string& path,
                FakeChunkSource& source);

  StreamEngine& engine() { return *engine_; }
  MapStore& store() { return *migration_.store; }
  // kNoSpace: nothing was written.
  Status TryWrite(uint64_t offset, std::span<const std::byte> data);
  // Failures abort.
  void Write(uint64_t offset, std::span<const std::byte> data);
  std::vector<std::byte> Read(uint64_t offset, uint64_t size);
  void Discard(uint64_t offset, uint64_t size);
  void Shutdown();

 private:
  // Let the clock go on until it is done.
  Status Finish(Task<Status> task);
  void Run(Task<Status> task, const char* what);

  TestExecutor executor_;
  OpenedMigration migration_;
  std::unique_ptr<StreamEngine> engine_;
};

}  // namespace bootstream

#endif  // TESTS_SUPPORT_TARGET_SESSION_H_
