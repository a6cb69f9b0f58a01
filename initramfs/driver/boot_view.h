#ifndef INITRAMFS_DRIVER_BOOT_VIEW_H_
#define INITRAMFS_DRIVER_BOOT_VIEW_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <unordered_set>

#include "blockmap/base/executor.h"
#include "blockmap/base/read_only_device.h"
#include "initramfs/driver/engine.h"

namespace bootstream {

// The raw disk as firmware and boot loader will see it: each chunk is read from
// its home, whatever lies there.  If asked to, it brings home what is read, to
// stay: so a boot loader's own code, reading what it will read at the next
// boot, computes the boot closure (design invariant 7).
//
// Thread of the executor.  Everything given must outlive it, and the view the
// executor's last turn.
class BootView final : public ReadOnlyDevice {
 public:
  BootView(Executor& executor, BlockDevice& disk, StreamEngine& engine);
  ~BootView() override;

  // Show what is there.
  void Look();
  // Bring home what is read.  A read waits for the server for `patience` from
  // now at most, all of them together; later ones that would wait fail.
  void Bring(std::chrono::milliseconds patience);
  // Make whole the blocks of pinned ranges that have been written in part
  // (patches): firmware and boot loader read the ESP and /boot.  As a read of
  // Bring.
  Task<Status> BringPatched();

  // Since the last Look or Bring: chunks that came home, and whether one did not
  // come in time.
  uint64_t brought_count() const { return brought_; }
  bool late() const { return late_; }

 private:
  // A chunk on its way, and whoever waits for it, but not longer than we like.
  struct Arrival {
    Event over;
    std::optional<Status> status;  // none: it is late
  };
  Task<Status> ReadInside(uint64_t chunk, uint64_t offset,
                          std::span<std::byte> out) override;
  Task<Status> BringOne(ImageChunk chunk, uint64_t blocks);
  Task<void> Fetch(ImageChunk chunk, std::shared_ptr<Arrival> arrival);
  void GiveUp();
  Status TooLate(ImageChunk chunk);

  Executor& executor_;
  BlockDevice& disk_;
  StreamEngine& engine_;
  bool brings_ = false;
  bool patient_ = false;
  uint64_t order_ = 0;  // of Look and Bring: an old one's timer does nothing
  uint64_t brought_ = 0;
  bool late_ = false;
  std::unordered_set<std::shared_ptr<Arrival>> waiting_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace bootstream

#endif  // INITRAMFS_DRIVER_BOOT_VIEW_H_
