#ifndef BLOCKMAP_DISK_FILE_EXTENTS_H_
#define BLOCKMAP_DISK_FILE_EXTENTS_H_

#include <span>
#include <string>
#include <vector>

#include "blockmap/base/result.h"
#include "blockmap/base/types.h"

// How space of a running system's file system becomes ours: its own driver
// allocates one large file, and two decoders must agree on where that lies.
// Reading the disk proves nothing, because the extents are unwritten.
// Sources: fiemap (kernel documentation), libext2fs.

namespace bootstream {

// The file that holds the region, in the root of the source's file system.
inline constexpr char kRegionFileName[] = ".bootstream-region";

// Mount the ext4 file system in `partition` of `disk` (LoopMount), make the
// file `name` in its root, or let the one that is there grow, so that it is
// allocated up to `size` bytes, and unmount again.  Then read its extents anew
// from the unmounted file system: the result, as offsets on the disk, in the
// order of the file, joined where they touch.  What is in a file that is there
// already stays, unless it has a hole: then it is begun anew.  Its tag
// (region_tag.h) is blank afterwards.
// kRefused: an extent that is no plain place on the disk (delayed, inline,
// encoded, shared, unknown), or two decoders that disagree; kNoSpace: the file
// system is full (what was made is given back).
Result<std::vector<ByteExtent>> AllocateFile(const std::string& disk,
                                             ByteExtent partition,
                                             const std::string& name,
                                             uint64_t size);

// The same, with all the space that there is.
Result<std::vector<ByteExtent>> AllocateAll(const std::string& disk,
                                            ByteExtent partition,
                                            const std::string& name);

// Mount, give back what lies outside `kept` (offsets on the disk, ascending),
// unmount.  The file has holes then; the result is as that of AllocateFile.
Result<std::vector<ByteExtent>> TrimFile(const std::string& disk,
                                         ByteExtent partition,
                                         const std::string& name,
                                         std::span<const ByteExtent> kept);

// The extents of the file `name` in the root of an unmounted ext4, by
// libext2fs.  kNotFound: there is no such file; kRefused: it is not mapped by
// extents.
Result<std::vector<ByteExtent>> FileExtents(const std::string& disk,
                                            ByteExtent partition,
                                            const std::string& name);

// Mount, delete the file if it is there, unmount.
Status RemoveFile(const std::string& disk, ByteExtent partition,
                  const std::string& name);

// The whole chunks of `grid` that lie in `extents`, in their order.
std::vector<DiskChunk> WholeChunks(std::span<const ByteExtent> extents,
                                   Grid grid);
// The same chunks as ascending extents that do not touch.
std::vector<DiskExtent> ToExtents(std::vector<DiskChunk> chunks);

}  // namespace bootstream

#endif  // BLOCKMAP_DISK_FILE_EXTENTS_H_
