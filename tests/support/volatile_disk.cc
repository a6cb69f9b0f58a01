#include "tests/support/volatile_disk.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "blockmap/base/posix_block_device.h"
#include "blockmap/base/types.h"

namespace bootstream {
namespace {

// Zeroes have no data that could be torn by the sector.
constexpr uint64_t kZeroUnitBytes = 64 << 10;

Error NoPower() { return Error{ErrorCode::kIo, "no power"}; }

Status ReadFile(int fd, uint64_t offset, std::span<std::byte> out) {
  while (!out.empty()) {
    const ssize_t n =
        ::pread(fd, out.data(), out.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoError(errno, "read the disk file");
    if (n == 0) return Error{ErrorCode::kIo, "the disk file has shrunk"};
    out = out.subspan(static_cast<size_t>(n));
    offset += static_cast<uint64_t>(n);
  }
  return OkStatus();
}

Status WriteFile(int fd, uint64_t offset, std::span<const std::byte> data) {
  while (!data.empty()) {
    const ssize_t n =
        ::pwrite(fd, data.data(), data.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoError(errno, "write the disk file");
    data = data.subspan(static_cast<size_t>(n));
    offset += static_cast<uint64_t>(n);
  }
  return OkStatus();
}

}  // namespace

Result<std::unique_ptr<VolatileDisk>> VolatileDisk::Open(
    const std::string& path, uint64_t cache_bytes) {
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!fd) return ErrnoError(errno, "open " + path);
  const auto size = DiskSizeBytes(fd.get());
  if (!size) return size.error();
  return std::unique_ptr<VolatileDisk>(
      new VolatileDisk(std::move(fd), *size, cache_bytes));
}

Task<Status> VolatileDisk::Read(uint64_t offset, std::span<std::byte> out) {
  if (!has_power_) co_return NoPower();
  if (auto s = ReadFile(fd_.get(), offset, out); !s) co_return s;
  const uint64_t end = offset + out.size();
  auto it = pieces_.upper_bound(offset);
  if (it != pieces_.begin()) --it;
  for (; it != pieces_.end() && it->first < end; ++it) {
    const uint64_t from = std::max(it->first, offset);
    const uint64_t to = std::min(it->second.end, end);
    if (from >= to) continue;
    const Pending& write = pending_[it->second.number - first_number_];
    std::byte* at = out.data() + (from - offset);
    if (write.data.empty()) {
      std::memset(at, 0, to - from);
    } else {
      std::memcpy(at, write.data.data() + (from - write.offset), to - from);
    }
  }
  co_return OkStatus();
}

Task<Status> VolatileDisk::Write(uint64_t offset,
                                 std::span<const std::byte> data, bool fua) {
  Pending write;
  write.offset = offset;
  write.size = data.size();
  write.data.assign(data.begin(), data.end());
  write.durable = fua;
  co_return Add(std::move(write));
}

Task<Status> VolatileDisk::Discard(uint64_t offset, uint64_t size) {
  return WriteZeroes(offset, size, false);
}

Task<Status> VolatileDisk::WriteZeroes(uint64_t offset, uint64_t size,
                                       bool fua) {
  Pending write;
  write.offset = offset;
  write.size = size;
  write.durable = fua;
  co_return Add(std::move(write));
}

Task<Status> VolatileDisk::Flush() {
  if (!has_power_) co_return NoPower();
  ++counts_.flushes;
  if (at_flush_ && counts_.flushes >= at_flush_->n) {
    CutPower(at_flush_->seed);
    co_return NoPower();
  }
  co_return WriteBack();
}

Status VolatileDisk::Add(Pending write) {
  if (!has_power_) return NoPower();
  if (write.size == 0) return OkStatus();
  const bool cut = at_write_ && counts_.writes + 1 >= at_write_->n;
  // Of the write that the cut meets nothing is promised.
  write.durable = write.durable && !cut;
  if (write.durable) {
    const uint64_t end = write.offset + write.size;
    if (auto s = Store(write, write.offset, end); !s) return s;
  }
  ++counts_.writes;
  cache_bytes_ += write.data.size();
  Cover(write.offset, write.offset + write.size,
        first_number_ + pending_.size());
  pending_.push_back(std::move(write));
  if (cut) {
    CutPower(at_write_->seed);
    return NoPower();
  }
  while (cache_bytes_ > cache_max_) {
    if (auto s = WriteBackOldest(); !s) return s;
  }
  return OkStatus();
}

void VolatileDisk::Cover(uint64_t offset, uint64_t end, uint64_t number) {
  auto it = pieces_.lower_bound(offset);
  if (it != pieces_.begin()) {
    Piece& before = std::prev(it)->second;
    if (before.end > end) pieces_[end] = before;
    before.end = std::min(before.end, offset);
  }
  while (it != pieces_.end() && it->first < end) {
    if (it->second.end > end) pieces_[end] = it->second;
    it = pieces_.erase(it);
  }
  pieces_[offset] = Piece{end, number};
}

Status VolatileDisk::Store(const Pending& write, uint64_t from, uint64_t to) {
  if (write.data.empty()) {
    if (::fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                    static_cast<off_t>(from),
                    static_cast<off_t>(to - from)) != 0) {
      return ErrnoError(errno, "punch a hole into the disk file");
    }
    return OkStatus();
  }
  return WriteFile(
      fd_.get(), from,
      std::span(write.data).subspan(from - write.offset, to - from));
}

Status VolatileDisk::WriteBackOldest() {
  const Pending& write = pending_.front();
  const uint64_t end = write.offset + write.size;
  if (auto s = Store(write, write.offset, end); !s) return s;
  auto it = pieces_.lower_bound(write.offset);
  while (it != pieces_.end() && it->first < end) {
    it = it->second.number == first_number_ ? pieces_.erase(it) : std::next(it);
  }
  cache_bytes_ -= write.data.size();
  pending_.pop_front();
  ++first_number_;
  return OkStatus();
}

Status VolatileDisk::WriteBack() {
  while (!pending_.empty()) {
    if (auto s = WriteBackOldest(); !s) return s;
  }
  return OkStatus();
}

void VolatileDisk::Mark() { counts_ = Counts(); }

VolatileDisk::Counts VolatileDisk::counts() const {
  Counts counts = counts_;
  counts.unflushed = pending_.size();
  return counts;
}

void VolatileDisk::CutAtWrite(uint64_t n, uint64_t seed) {
  at_write_ = Trigger{n, seed};
  if (counts_.writes >= n) CutPower(seed);
}

void VolatileDisk::CutAtFlush(uint64_t n, uint64_t seed) {
  at_flush_ = Trigger{n, seed};
  if (counts_.flushes >= n) CutPower(seed);
}

void VolatileDisk::CutPower(uint64_t seed) {
  if (!std::exchange(has_power_, false)) return;
  std::mt19937_64 random(seed);
  Outcome outcome;
  // Some cuts lose nearly everything, some nearly nothing.
  const auto percent_kept = static_cast<unsigned>(random() % 101);
  for (const Pending& write : pending_) {
    Settle(write, percent_kept, random, outcome);
  }
  pending_.clear();
  pieces_.clear();
  if (on_cut_) on_cut_(outcome);
}

void VolatileDisk::Settle(const Pending& write, unsigned percent_kept,
                          std::mt19937_64& random, Outcome& outcome) {
  const uint64_t end = write.offset + write.size;
  // Again, over what was kept of older writes.
  Status stored;
  if (write.durable) {
    stored = Store(write, write.offset, end);
  } else if (++outcome.unflushed; random() % 100 < percent_kept) {
    ++outcome.kept;
    stored = Store(write, write.offset, end);
  } else if (random() % 2 == 0) {
    ++outcome.dropped;
  } else {
    uint64_t unit = random() % 2 == 0 ? kSectorBytes : kBlockBytes;
    if (write.data.empty()) unit = kZeroUnitBytes;
    const auto part = Tear(write, unit, random);
    if (!part) {
      stored = part.error();
    } else if (*part == 0) {
      ++outcome.dropped;
    } else {
      ++(*part == write.size ? outcome.kept : outcome.torn);
    }
  }
  if (!stored && outcome.status) outcome.status = stored;
}

// By a coin for each unit of the disk, or up to one of them; how many bytes.
Result<uint64_t> VolatileDisk::Tear(const Pending& write, uint64_t unit,
                                    std::mt19937_64& random) {
  const bool prefix = random() % 2 == 0;
  const uint64_t stop = write.offset + random() % (write.size + 1);
  uint64_t part = 0;
  for (uint64_t at = write.offset; at < write.offset + write.size;) {
    const uint64_t next =
        std::min((at / unit + 1) * unit, write.offset + write.size);
    if (prefix ? next <= stop : random() % 2 == 0) {
      if (auto s = Store(write, at, next); !s) return s.error();
      part += next - at;
    }
    at = next;
  }
  return part;
}

}  // namespace bootstream
