#ifndef BLOCKMAP_BASE_BUFFER_MEMORY_H_
#define BLOCKMAP_BASE_BUFFER_MEMORY_H_

#include <cstddef>

#include "blockmap/base/types.h"

namespace bootstream {

#if defined(__has_feature)
#define BOOTSTREAM_HAS_FEATURE(name) __has_feature(name)
#else
#define BOOTSTREAM_HAS_FEATURE(name) 0
#endif
// The address sanitizer is to see each buffer come and go.
#if defined(__SANITIZE_ADDRESS__) || BOOTSTREAM_HAS_FEATURE(address_sanitizer)
constexpr bool kBufferMemoryIsKept = false;
#else
constexpr bool kBufferMemoryIsKept = true;
#endif
#undef BOOTSTREAM_HAS_FEATURE

constexpr size_t WholeBlocks(size_t bytes) {
  return (bytes + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
}

// Memory for buffers of up to 32 MiB is mapped by itself, in at most four sizes
// to a power of two, and what is freed waits, up to 64 MiB, for the next buffer
// of its size.  On the heap (malloc(3)) the small things between chunks that
// come and go would keep their places apart, and it would grow to a multiple of
// what is in use; mapped anew each time, the kernel would clear each one.
//
// Any thread.  Starts on a 4 KiB boundary, is not cleared, and is
// WholeBlocks(bytes) long.  Aborts when memory is exhausted, as operator new
// does.  REQUIRES: bytes > 0.
std::byte* TakeBufferMemory(size_t bytes);
// `bytes` as it was taken with.
void GiveBufferMemory(std::byte* memory, size_t bytes);
// From now on this thread's buffers come from `bytes` of memory that stays
// ours, as long as there is room there: it does not wait until the kernel has
// found some.  Any thread may give them back.  Once; at most
// BufferReserve::kBytesMax.
void ReserveBufferMemory(size_t bytes);
// The kernel gets back what has waited since the last call and was not wanted
// once.
void ReleaseUnusedBufferMemory();

}  // namespace bootstream

#endif  // BLOCKMAP_BASE_BUFFER_MEMORY_H_
