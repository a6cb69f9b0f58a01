#ifndef BLOCKMAP_BASE_FILE_UTIL_H_
#define BLOCKMAP_BASE_FILE_UTIL_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "blockmap/base/result.h"

// Small files, whole.  Any thread.

namespace bootstream {

// The bytes of `path`.  kNotFound: there is no such file; kInvalid: it is
// longer than `bytes_max`.
Result<std::vector<std::byte>> ReadWholeFile(const std::string& path,
                                             uint64_t bytes_max);

enum class IfExists { kFail, kReplace };

// Write `path` so that after a power cut it is whole or not there (or, with
// kReplace, still the old one): temporary name, fsync, link or rename, fsync of
// the folder.  kInvalid with kFail: the file is there already.
Status WriteFileDurably(const std::string& path,
                        std::span<const std::byte> bytes, mode_t mode,
                        IfExists if_exists);

// fsync of a folder: its names are durable.
Status SyncDirectory(const std::string& path);

// All of `data` to `fd`, EINTR and short writes seen to.
Status WriteAll(int fd, std::span<const std::byte> data);

}  // namespace bootstream

#endif  // BLOCKMAP_BASE_FILE_UTIL_H_
