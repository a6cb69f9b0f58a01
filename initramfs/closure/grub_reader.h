#ifndef INITRAMFS_CLOSURE_GRUB_READER_H_
#define INITRAMFS_CLOSURE_GRUB_READER_H_

#include <string>

#include "blockmap/base/result.h"
#include "initramfs/closure/boot_trees.h"
#include "initramfs/system/run_program.h"

namespace bootstream {

// Reads a disk with GRUB's own code: grub-fstest, of GRUB's package.  Blocking,
// until `deadline` at most: this system's own files may wait for the server.
class GrubReader {
 public:
  // `device`: the whole disk.
  GrubReader(std::string device, Deadline deadline)
      : device_(std::move(device)), deadline_(deadline) {}

  // Whether grub-fstest is there; kNotFound says which package has it.
  static Status IsInstalled();

  // Everything of `tree` is there, under its name and byte for byte as this
  // system has it.  kCorrupt: GRUB sees something else, or cannot read it;
  // kUnavailable: not all of it came in time.
  Status Compare(const BootTree& tree) const;

 private:
  std::string NameOf(const BootTree& tree) const;

  const std::string device_;
  const Deadline deadline_;
};

}  // namespace bootstream

#endif  // INITRAMFS_CLOSURE_GRUB_READER_H_
