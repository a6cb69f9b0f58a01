#ifndef BLOCKMAP_BASE_CRC32C_H_
#define BLOCKMAP_BASE_CRC32C_H_

#include <cstddef>
#include <cstdint>
#include <span>

namespace bootstream {

// CRC-32C (Castagnoli, RFC 3720 appendix B.4) of `data`; pass the result of an
// earlier call as `seed` to go on.  Uses the SSE 4.2 instruction if there.
uint32_t Crc32c(std::span<const std::byte> data, uint32_t seed = 0);

}  // namespace bootstream

#endif  // BLOCKMAP_BASE_CRC32C_H_
