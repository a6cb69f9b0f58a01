#ifndef INITRAMFS_SOURCE_IMPORT_SPACE_H_
#define INITRAMFS_SOURCE_IMPORT_SPACE_H_

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "blockmap/base/result.h"
#include "initramfs/source/import_plan.h"

// Whether what is to be imported fits, before any of it is copied.  Blocking.

namespace bootstream {

// What `rsync --dry-run --stats` says would be copied, each file in whole
// blocks of 4 KiB at worst.  nullopt: it does not say.
std::optional<uint64_t> BytesInStats(std::string_view stats);

// kRefused, with by how much, if the file systems that `folders` go to have not
// enough free for what is still missing there; or if the one of the root has,
// and the region behind it has not: `room_bytes`, where that is less than the
// whole image.  kNotFound: there is no rsync.
Status CheckImportSpace(const std::vector<ImportFolder>& folders,
                        std::optional<uint64_t> room_bytes);

}  // namespace bootstream

#endif  // INITRAMFS_SOURCE_IMPORT_SPACE_H_
