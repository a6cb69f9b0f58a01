#ifndef INITRAMFS_GROW_WISH_H_
#define INITRAMFS_GROW_WISH_H_

#include <string>
#include <string_view>

#include "blockmap/base/result.h"

namespace bootstream {

// A file that says that this system is to grow to its disk once no driver has
// it any more.  The manifest says it first, and is gone by then.

// Durable when it returns, folder included.  `why` is for people.
Status WriteWish(const std::string& path, std::string_view why);
bool IsWished(const std::string& path);
// Durable, too.  None there is no error.
Status RemoveWish(const std::string& path);

}  // namespace bootstream

#endif  // INITRAMFS_GROW_WISH_H_
