#ifndef INITRAMFS_SOURCE_SOURCE_MOUNTS_H_
#define INITRAMFS_SOURCE_SOURCE_MOUNTS_H_

#include <string>
#include <vector>

#include "blockmap/base/result.h"
#include "initramfs/source/source_filesystems.h"

namespace bootstream {

// A file system of the old system that we have mounted.
struct SourceMount {
  std::string directory;  // absolute
  std::string device;     // the loop device that shows its partition: "loop3"
  int partition = 0;
  bool made_directory = false;
};

// File systems of the old system, mounted read-only, each through a read-only
// loop device of its own which goes with the mount: the kernel makes no
// partitions of the disk, for udev would take them for the new system's.  What
// is mounted is recorded in a file, for the command that undoes it.  Needs
// root. Blocking; one process at a time.
class SourceMounts {
 public:
  // What an earlier command has recorded in `record`.
  static Result<SourceMounts> Load(std::string record);

  // Mount `filesystem` of the block device `disk` on `directory`, which is made
  // if missing.  kRefused: not beside what is mounted already.
  Status Mount(const std::string& disk, const SourceFilesystem& filesystem,
               const std::string& directory);
  // Undo all of it, the last first.  kRefused: one is in use; the rest stays.
  Status UnmountAll();

  const std::vector<SourceMount>& mounts() const { return mounts_; }

 private:
  explicit SourceMounts(std::string record) : record_(std::move(record)) {}
  Status Save() const;

  std::string record_;
  std::vector<SourceMount> mounts_;
};

}  // namespace bootstream

#endif  // INITRAMFS_SOURCE_SOURCE_MOUNTS_H_
