#ifndef TESTS_SUPPORT_VOLATILE_DISK_H_
#define TESTS_SUPPORT_VOLATILE_DISK_H_

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "blockmap/base/block_service.h"
#include "blockmap/base/unique_fd.h"

namespace bootstream {

// A disk file behind a volatile cache.  Writes are seen at once and are in the
// file after a flush; FUA brings that one write there.  When the power goes,
// each write that was not flushed is kept, dropped or torn at 512 bytes or
// 4 KiB, on its own: the file is then what the next start finds, and every
// further call ends in kIo.  Discards and zeroes are writes; both read as
// zeroes.  A cache that is full writes its oldest back, as a real one may at
// any time.  One thread; everything completes inside the call.
class VolatileDisk final : public BlockService {
 public:
  struct Counts {
    uint64_t writes = 0;
    uint64_t flushes = 0;
    uint64_t unflushed = 0;  // writes, now
  };
  // What became of the writes that were not flushed.
  struct Outcome {
    uint64_t unflushed = 0;
    uint64_t kept = 0;
    uint64_t dropped = 0;
    uint64_t torn = 0;
    Status status;  // of writing what was kept to the file
  };

  static constexpr uint64_t kCacheBytes = 64 << 20;
  static Result<std::unique_ptr<VolatileDisk>> Open(
      const std::string& path, uint64_t cache_bytes = kCacheBytes);

  uint64_t size_bytes() const override { return size_bytes_; }
  Task<Status> Read(uint64_t offset, std::span<std::byte> out) override;
  Task<Status> Write(uint64_t offset, std::span<const std::byte> data,
                     bool fua) override;
  Task<Status> Flush() override;
  Task<Status> Discard(uint64_t offset, uint64_t size) override;
  Task<Status> WriteZeroes(uint64_t offset, uint64_t size, bool fua) override;

  // Writes and flushes are counted from here.
  void Mark();
  Counts counts() const;
  // Everything written is durable, as after a flush that nobody has sent.
  Status WriteBack();
  // The power goes when write or flush number `n` since the mark arrives: that
  // write may be on the disk, that flush has covered nothing.  If there were as
  // many already, it goes at once.
  void CutAtWrite(uint64_t n, uint64_t seed);
  void CutAtFlush(uint64_t n, uint64_t seed);
  void CutPower(uint64_t seed);
  // Called when it has gone and the file is what is left.
  void set_on_cut(std::function<void(const Outcome&)> on_cut) {
    on_cut_ = std::move(on_cut);
  }

 private:
  struct Pending {
    uint64_t offset = 0;
    uint64_t size = 0;
    std::vector<std::byte> data;  // empty: zeroes
    bool durable = false;         // FUA: in the file already
  };
  // A run of bytes whose newest writer is the pending write `number`.
  struct Piece {
    uint64_t end = 0;
    uint64_t number = 0;
  };
  struct Trigger {
    uint64_t n = 0;
    uint64_t seed = 0;
  };

  VolatileDisk(UniqueFd fd, uint64_t size_bytes, uint64_t cache_bytes)
      : fd_(std::move(fd)), size_bytes_(size_bytes), cache_max_(cache_bytes) {}
  Status Add(Pending write);
  Status WriteBackOldest();
  void Cover(uint64_t offset, uint64_t end, uint64_t number);
  // Bytes [from, to) of `write` into the file.
  Status Store(const Pending& write, uint64_t from, uint64_t to);
  void Settle(const Pending& write, unsigned percent_kept,
              std::mt19937_64& random, Outcome& outcome);
  Result<uint64_t> Tear(const Pending& write, uint64_t unit,
                        std::mt19937_64& random);

  const UniqueFd fd_;
  const uint64_t size_bytes_;
  const uint64_t cache_max_;
  std::deque<Pending> pending_;  // the oldest first
  uint64_t first_number_ = 0;    // of pending_.front()
  uint64_t cache_bytes_ = 0;
  std::map<uint64_t, Piece> pieces_;  // by offset; they do not overlap
  Counts counts_;
  std::optional<Trigger> at_write_;
  std::optional<Trigger> at_flush_;
  bool has_power_ = true;
  std::function<void(const Outcome&)> on_cut_;
};

}  // namespace bootstream

#endif  // TESTS_SUPPORT_VOLATILE_DISK_H_
