#ifndef BLOCKMAP_NBD_BIG_ENDIAN_H_
#define BLOCKMAP_NBD_BIG_ENDIAN_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

// Network byte order, for protocols that are not ours.  REQUIRES: enough bytes.

namespace bootstream {

template <typename T>
T LoadBe(std::span<const std::byte> in) {
  T value = 0;
  for (size_t i = 0; i < sizeof(T); ++i) {
    value = static_cast<T>(value << 8 | static_cast<T>(in[i]));
  }
  return value;
}

template <typename T>
void StoreBe(std::span<std::byte> out, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) {
    out[i] = static_cast<std::byte>(value >> (8 * (sizeof(T) - 1 - i)));
  }
}

template <typename T>
void AppendBe(std::vector<std::byte>& out, T value) {
  const size_t at = out.size();
  out.resize(at + sizeof(T));
  StoreBe<T>(std::span(out).subspan(at), value);
}

}  // namespace bootstream

#endif  // BLOCKMAP_NBD_BIG_ENDIAN_H_
