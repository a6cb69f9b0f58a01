// What a FAT file system has in use.  The input: the partition's KiB (two
// bytes), then what it begins with; the rest of it is zero.

#include "blockmap/base/coding.h"
#include "blockmap/disk/used_extents.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/memory_file.h"

namespace bootstream {

FUZZ_TARGET(fat) {
  static MemoryFile file;
  ByteReader in(input);
  const ByteExtent partition{0, uint64_t{in.U16()} << 10};
  const auto head = in.Bytes(in.remaining());
  file.Fill(head);
  if (head.size() < partition.size) {
    const std::array<std::byte, 1> last{};
    file.Patch(partition.size - 1, last);
  }
  const auto used = UsedFatExtents(file.path(), partition);
  if (!used) return;
  uint64_t end = 0;
  for (const ByteExtent& extent : *used) {
    Require(extent.offset >= end && extent.size > 0, "extents ascend");
    Require(extent.end() <= partition.size, "extents lie in the partition");
    end = extent.end();
  }
  Require(!used->empty() && used->front().offset == 0,
          "the first sector is in use");
}

}  // namespace bootstream
