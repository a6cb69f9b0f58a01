#ifndef INITRAMFS_TAKEOVER_TAKEOVER_H_
#define INITRAMFS_TAKEOVER_TAKEOVER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "blockmap/base/result.h"
#include "blockmap/base/unique_fd.h"

// Taking a disk away from the kernel and from udev, and giving them the
// streamed device in its place (design invariant 9).
//
//   raw disk        partitions dropped, no links, not watched
//    \- bootstream-disk   dm-linear over all of it: whoever wants the disk, or
//                         its partition table read again, gets EBUSY
//        \- our driver -> /dev/nbd0, /dev/ublkb0, /dev/loop0
//            \- bootstream1, bootstream2, ...   dm-linear, with the links
//                                               that real partitions would have
//
// Everything here blocks, and udev reads the streamed device meanwhile: call
// it from a thread that the driver does not need to answer requests.  One
// thread at a time.  All of it may be called again by a daemon that was
// started anew: what is there already is checked and kept.

namespace bootstream {

struct ClaimedDisk {
  UniqueFd fd;       // the claim, open with O_RDWR | O_DIRECT
  std::string path;  // the claim's node: /dev/dm-0
  uint64_t size_bytes = 0;
};

// Take over the raw disk at `disk`.  On an error its partitions may be gone
// from the kernel already; nothing on the disk has changed.  kRefused if a
// partition or the disk is in use.  REQUIRES: nobody in this process has the
// disk open for writing.
Result<ClaimedDisk> ClaimDisk(const std::string& disk);

struct MappedPartition {
  int number = 0;
  std::string name;  // /dev/mapper/bootstream2
  std::string path;  // /dev/dm-2
};

// Make a device for every partition in the table on `streamed`, the driver's
// device that stands for the raw disk at `disk`.  The driver must be
// answering.  A streamed device of size 0 is kIo: it is not connected.
Result<std::vector<MappedPartition>> MapPartitions(const std::string& disk,
                                                   const std::string& streamed);

// Take the partitions of `streamed` away again; kIo if one is in use.
Status UnmapPartitions(const std::string& streamed);

// Undo ClaimDisk, for tests and for detaching: the claim goes, the kernel
// reads the partition table of `disk` again.  REQUIRES: the claim's descriptor
// is closed.
Status ReleaseDisk(const std::string& disk);

// The live partitions get the raw disk instead of the streamed device below
// them, while they are in use.  Between Suspend and Finish or Undo nothing of
// theirs is answered, and nothing may wait for them: files, udev, the page
// cache.  Destroyed in between, it undoes.
class PartitionSwap {
 public:
  // Everything that can fail is done here: devices found, new tables loaded,
  // what others have written to `streamed` by itself flushed.
  static Result<PartitionSwap> Prepare(const std::string& disk,
                                       const std::string& streamed);
  PartitionSwap(PartitionSwap&&) = default;
  ~PartitionSwap();

  Status Suspend();
  // From now on over the raw disk / as it was.
  Status Finish();
  Status Undo();
  size_t partition_count() const { return devices_.size(); }

 private:
  friend Status EndSwap(const std::string& disk, const std::string& streamed,
                        bool over_raw_disk);
  PartitionSwap() = default;
  static Result<PartitionSwap> Load(const std::string& disk,
                                    const std::string& streamed);
  std::vector<std::string> devices_;
  size_t suspended_ = 0;  // the first so many
};

// What a worker that died in a swap has left: over the raw disk from now on, or
// as it was.  kNotFound: the streamed device is gone.
Status EndSwap(const std::string& disk, const std::string& streamed,
               bool over_raw_disk);

// The swap is done and the driver ends: the disk is udev's again, its buffers
// are dropped, and the claim goes when the last of us has closed it.
Status GiveDiskBack(const std::string& disk, const std::string& streamed);

}  // namespace bootstream

#endif  // INITRAMFS_TAKEOVER_TAKEOVER_H_
