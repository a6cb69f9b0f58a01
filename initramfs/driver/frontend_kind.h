#ifndef INITRAMFS_DRIVER_FRONTEND_KIND_H_
#define INITRAMFS_DRIVER_FRONTEND_KIND_H_

#include <cstdint>

namespace bootstream {

// kAuto: ublk where the kernel has it, else NBD, else FUSE.
enum class FrontendKind : uint8_t { kSocket, kNbd, kFuse, kUblk, kAuto };

}  // namespace bootstream

#endif  // INITRAMFS_DRIVER_FRONTEND_KIND_H_
