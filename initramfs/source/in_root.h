#ifndef INITRAMFS_SOURCE_IN_ROOT_H_
#define INITRAMFS_SOURCE_IN_ROOT_H_

#include <string>

#include "blockmap/base/result.h"

namespace bootstream {

// Where `path` of a system leads that is mounted at `root`, as we would call
// it: its links are followed as that system would, never out of it
// (openat2(2), RESOLVE_IN_ROOT).  kNotFound: nowhere.
Result<std::string> ResolveInRoot(const std::string& root,
                                  const std::string& path);

}  // namespace bootstream

#endif  // INITRAMFS_SOURCE_IN_ROOT_H_
