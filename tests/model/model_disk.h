#ifndef TESTS_MODEL_MODEL_DISK_H_
#define TESTS_MODEL_MODEL_DISK_H_

#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "blockmap/base/block_device.h"
#include "tests/support/disk_image.h"

namespace bootstream {

// A DiskImage that knows a hash of what was written to it since it was made:
// two that began equal and have equal hashes have equal bytes.
class HashedImage {
 public:
  explicit HashedImage(DiskImage image) : image_(std::move(image)) {}
  void Write(uint64_t offset, std::span<const std::byte> data);
  const DiskImage& image() const { return image_; }
  uint64_t hash() const { return hash_; }

 private:
  DiskImage image_;
  uint64_t hash_ = 0;
};

// A disk whose requests wait until the explorer completes them, in any order.
// A completed write is visible; it is durable after a flush that was submitted
// later.  Everything else is *loose*: a power cut keeps or drops it.
class ModelDisk final : public BlockDevice {
 public:
  explicit ModelDisk(const DiskImage& image)
      : durable_(image), visible_(image) {}

  void Submit(IoRequest& request) override;
  uint64_t size_bytes() const override { return visible_.size(); }

  void Hold() { held_ = true; }
  // Completes all that waits, and from now on inside Submit.
  void Release();
  size_t waiting_count() const { return waiting_.size(); }
  // Request `i`, oldest first, is carried out and completed.
  void Complete(size_t i);
  // "write 12+1 blocks": for a failing run's story.
  std::string Describe(size_t i) const;

  // Loose writes, oldest first: completed ones, then those that wait.
  size_t loose_count() const;
  // The disk after a power cut: of the loose writes those are there whose
  // element of `kept` is true; of one that is `torn` some sectors.
  enum class Fate : uint8_t { kDropped, kKept, kTorn };
  HashedImage AfterCut(const std::vector<Fate>& fates,
                       std::mt19937_64& random) const;
  const DiskImage& visible() const { return visible_; }

 private:
  struct Loose {
    uint64_t offset = 0;
    std::vector<std::byte> data;
  };
  struct Waiting {
    IoRequest* request = nullptr;
    uint64_t covers = 0;  // of a flush: writes that had completed
  };
  void Do(const Waiting& waiting);

  HashedImage durable_;
  DiskImage visible_;
  std::vector<Loose> completed_;  // and not flushed
  uint64_t completed_count_ = 0;
  std::vector<Waiting> waiting_;
  bool held_ = false;
};

}  // namespace bootstream

#endif  // TESTS_MODEL_MODEL_DISK_H_
