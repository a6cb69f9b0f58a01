#ifndef BLOCKMAP_BASE_CODING_H_
#define BLOCKMAP_BASE_CODING_H_

#include <cassert>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "blockmap/base/types.h"

// Everything we write is little-endian, byte by byte; no struct is ever copied
// to the disk.

namespace bootstream {

template <typename T>
T LoadLe(std::span<const std::byte, sizeof(T)> in) {
  T value = 0;
  for (size_t i = 0; i < sizeof(T); ++i) {
    value |= static_cast<T>(static_cast<T>(in[i]) << (8 * i));
  }
  return value;
}

template <typename T>
void StoreLe(std::span<std::byte, sizeof(T)> out, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) {
    out[i] = static_cast<std::byte>(value >> (8 * i));
  }
}

inline bool AllZero(std::span<const std::byte> bytes) {
  // Each byte equals the one before it, and the first is zero.
  return bytes.empty() ||
         (bytes[0] == std::byte{0} &&
          std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

// Appends little-endian fields to a vector.
class ByteWriter {
 public:
  explicit ByteWriter(std::vector<std::byte>& out) : out_(out) {}

  void U8(uint8_t value) { Put(value); }
  void U16(uint16_t value) { Put(value); }
  void U32(uint32_t value) { Put(value); }
  void U64(uint64_t value) { Put(value); }
  void Bytes(std::span<const std::byte> bytes) {
    out_.insert(out_.end(), bytes.begin(), bytes.end());
  }
  // u16 length, then the bytes.  REQUIRES: text.size() < 65536.
  void String(std::string_view text) {
    assert(text.size() < 65536);
    U16(static_cast<uint16_t>(text.size()));
    Bytes(std::as_bytes(std::span(text.data(), text.size())));
  }
  void Zeroes(size_t count) { out_.resize(out_.size() + count); }
  void PadTo(size_t size) {
    assert(out_.size() <= size);
    out_.resize(size);
  }
  size_t size() const { return out_.size(); }

 private:
  template <typename T>
  void Put(T value) {
    const size_t at = out_.size();
    out_.resize(at + sizeof(T));
    StoreLe<T>(std::span<std::byte, sizeof(T)>(out_.data() + at, sizeof(T)),
               value);
  }
  std::vector<std::byte>& out_;
};

// Reads little-endian fields.  Reading past the end returns zeroes and makes
// ok() false for good, so a parser checks once, before it trusts anything that
// sizes an allocation or a loop.
class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> in) : in_(in) {}

  uint8_t U8() { return Get<uint8_t>(); }
  uint16_t U16() { return Get<uint16_t>(); }
  uint32_t U32() { return Get<uint32_t>(); }
  uint64_t U64() { return Get<uint64_t>(); }
  // `size` bytes as a view into the input; empty if there are not so many.
  std::span<const std::byte> Bytes(size_t size) {
    if (size > remaining()) {
      Fail();
      return {};
    }
    const auto out = in_.subspan(at_, size);
    at_ += size;
    return out;
  }
  template <size_t N>
  std::array<std::byte, N> Array() {
    std::array<std::byte, N> out{};
    const auto bytes = Bytes(N);
    if (bytes.size() == N) std::memcpy(out.data(), bytes.data(), N);
    return out;
  }
  std::string String() {
    const auto bytes = Bytes(U16());
    return std::string(reinterpret_cast<const char*>(bytes.data()),
                       bytes.size());
  }
  void Skip(size_t size) { Bytes(size); }

  bool ok() const { return ok_; }
  size_t remaining() const { return in_.size() - at_; }
  size_t position() const { return at_; }

 private:
  template <typename T>
  T Get() {
    const auto bytes = Bytes(sizeof(T));
    if (bytes.size() != sizeof(T)) return 0;
    return LoadLe<T>(bytes.first<sizeof(T)>());
  }
  void Fail() {
    ok_ = false;
    at_ = in_.size();
  }
  std::span<const std::byte> in_;
  size_t at_ = 0;
  bool ok_ = true;
};

}  // namespace bootstream

#endif  // BLOCKMAP_BASE_CODING_H_
