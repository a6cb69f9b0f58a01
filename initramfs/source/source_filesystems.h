#ifndef INITRAMFS_SOURCE_SOURCE_FILESYSTEMS_H_
#define INITRAMFS_SOURCE_SOURCE_FILESYSTEMS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "blockmap/base/result.h"

namespace bootstream {

// One partition of the old system's disk, or all of it where it has no table.
struct SourceFilesystem {
  int partition = 0;  // as the kernel would number it; 0: the whole disk
  uint64_t offset_bytes = 0;
  uint64_t size_bytes = 0;
  std::string type;  // libblkid's name: "ext4", "crypto_LUKS"; empty: nothing
  std::string uuid;
  std::string label;
};

// What libblkid finds on the block device or file at `path`, partition after
// partition, whatever it is.  Blocking reads.
Result<std::vector<SourceFilesystem>> FindSourceFilesystems(
    const std::string& path);

// How a file system is mounted so that nothing of it changes.
struct WayToMount {
  std::string type;     // the kernel's name
  std::string options;  // besides ro
  // A program that can do it where the kernel cannot; empty: none.
  std::string helper;
};

// kUnsupported: it cannot be; the sentence says what it is.
Result<WayToMount> HowToMount(const SourceFilesystem& filesystem);

// "partition 2 (ext4, 'root')", for people.
std::string Describe(const SourceFilesystem& filesystem);

}  // namespace bootstream

#endif  // INITRAMFS_SOURCE_SOURCE_FILESYSTEMS_H_
