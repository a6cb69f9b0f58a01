#ifndef BLOCKMAP_DISK_LOOP_MOUNT_H_
#define BLOCKMAP_DISK_LOOP_MOUNT_H_

#include <string>

#include "blockmap/base/result.h"
#include "blockmap/base/types.h"
#include "blockmap/base/unique_fd.h"

namespace bootstream {

// One file system of a disk (or disk file), mounted read-write through a loop
// device that covers just its partition.  The mount lives in a mount namespace
// of its own, which the calling thread enters for good, and the loop device
// clears itself: if the process dies, both are gone.  Sources: loop(4),
// mount_namespaces(7).
class LoopMount {
 public:
  // Mount the ext4 file system in `partition` of `disk`.  Needs root, and
  // CONFIG_BLK_DEV_LOOP.
  static Result<LoopMount> MountExt4(const std::string& disk,
                                     ByteExtent partition);
  LoopMount(LoopMount&& other) noexcept;
  LoopMount& operator=(LoopMount&&) = delete;
  // Gives up what is left; Unmount is the way that can fail.
  ~LoopMount();

  // Where it is mounted.
  const std::string& directory() const { return directory_; }
  // Let what ext4 holds back for itself be allocated too, as long as it is
  // mounted; where the kernel lets us (reserved_clusters in
  // Documentation/ABI/testing/sysfs-fs-ext4).
  void UseReserve();
  // Unmount, detach the loop device, and make the disk durable and its cached
  // pages forgotten.
  Status Unmount();

 private:
  LoopMount(UniqueFd disk, UniqueFd loop, std::string loop_name)
      : disk_(std::move(disk)),
        loop_(std::move(loop)),
        loop_name_(std::move(loop_name)) {}
  Status Mount();
  void RemoveDirectory();

  UniqueFd disk_;
  UniqueFd loop_;
  std::string loop_name_;  // in /dev
  std::string directory_;  // empty: there is none
  bool mounted_ = false;
};

}  // namespace bootstream

#endif  // BLOCKMAP_DISK_LOOP_MOUNT_H_
