#ifndef TESTS_SUPPORT_ENGINE_RIG_H_
#define TESTS_SUPPORT_ENGINE_RIG_H_

#include <memory>
#include <string>
#include <vector>

#include "blockmap/base/unique_fd.h"
#include "blockmap/map/map_store.h"
#include "initramfs/driver/engine.h"
#include "tests/support/fake_chunk_source.h"
#include "tests/support/fake_image.h"
#include "tests/support/faulty_device.h"
#include "tests/support/memory_device.h"
#include "tests/support/test_executor.h"

namespace bootstream {

// A streaming engine over a disk and an image in memory: 64 KiB chunks; the
// image is 32 chunks, of which 8 to 11 are zero, 4 and 5 are pinned, and 20, 21
// and 14 are what a watched boot has read; the disk is 160 chunks of old
// content, and the region is what `region` says.
class EngineRig {
 public:
  static constexpr uint64_t kChunk = uint64_t{64} << 10;
  static constexpr uint64_t kImageChunks = 32;
  static constexpr uint64_t kDiskChunks = 160;

  explicit EngineRig(std::vector<DiskExtent> region = {{16, 8}, {64, 80}});

  // Null while a start that failed has not been made good.
  bool is_open() const { return engine_ != nullptr; }
  StreamEngine& engine() { return *engine_; }
  MapStore& store() { return *store_; }
  FakeChunkSource& source() { return *source_; }
  MemoryDevice& device() { return *device_; }
  // What engine and map store see of it.
  FaultyDevice& faults() { return *faults_; }
  // What the engine has said of the disk.
  const std::vector<std::string>& reports() const { return reports_; }
  TestExecutor& executor() { return executor_; }
  ChunkState engine_state(uint64_t chunk) const {
    return store_->map().Get(ImageChunk{chunk});
  }
  const std::vector<std::byte>& image() const { return image_; }
  const std::vector<std::byte>& old_disk() const { return old_disk_; }

  // Stop as kill -9 does, and open what is on the disk.
  void Restart();
  // The same on a disk that may fail; with an anchor found by it, as a driver
  // finds its disk.
  Status TryRestart();
  // Restart, and from now on have a keeper hold the changes of the map.
  void KeepChanges();
  // Restart with other options, here and later; reports() is kept.
  void RestartWith(StreamEngine::Options options);

  std::vector<std::byte> Read(uint64_t offset, uint64_t size);
  void Write(uint64_t offset, uint64_t size, std::byte value);
  // Where the source's chunk is now, and its bytes there.
  std::vector<std::byte> SourceChunk(uint64_t chunk) const;

 private:
  void OpenEngine();
  Result<Superblock> FindSuperblock();

  std::vector<std::byte> image_;
  std::vector<std::byte> manifest_file_;
  std::shared_ptr<const Manifest> manifest_;
  std::vector<std::byte> old_disk_;
  std::vector<DiskExtent> region_;
  TestExecutor executor_;
  std::unique_ptr<MemoryDevice> device_;
  std::unique_ptr<FaultyDevice> faults_;
  std::vector<std::string> reports_;
  StreamEngine::Options options_;
  UniqueFd kept_;
  std::unique_ptr<MapStore> store_;
  Superblock last_;  // of the store that ended
  std::unique_ptr<FakeChunkSource> source_;
  std::unique_ptr<StreamEngine> engine_;
};

}  // namespace bootstream

#endif  // TESTS_SUPPORT_ENGINE_RIG_H_
