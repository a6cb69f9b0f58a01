#include "blockmap/base/crc32c.h"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

namespace bootstream {
namespace {

constexpr std::array<uint32_t, 256> MakeTable() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) {
      crc = (crc >> 1) ^ ((crc & 1) ? 0x82f63b78U : 0);
    }
    table[i] = crc;
  }
  return table;
}

uint32_t Portable(std::span<const std::byte> data, uint32_t crc) {
  static constexpr auto kTable = MakeTable();
  for (const std::byte byte : data) {
    crc = (crc >> 8) ^ kTable[(crc ^ static_cast<uint32_t>(byte)) & 0xff];
  }
  return crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) uint32_t Hardware(
    std::span<const std::byte> data, uint32_t crc) {
  uint64_t wide = crc;
  while (data.size() >= 8) {
    uint64_t word = 0;
    std::memcpy(&word, data.data(), 8);
    wide = _mm_crc32_u64(wide, word);
    data = data.subspan(8);
  }
  crc = static_cast<uint32_t>(wide);
  for (const std::byte byte : data) {
    crc = _mm_crc32_u8(crc, static_cast<uint8_t>(byte));
  }
  return crc;
}
#endif

}  // namespace

uint32_t Crc32c(std::span<const std::byte> data, uint32_t seed) {
#if defined(__x86_64__)
  static const bool has_instruction = __builtin_cpu_supports("sse4.2");
  if (has_instruction) return ~Hardware(data, ~seed);
#endif
  return ~Portable(data, ~seed);
}

}  // namespace bootstream
