#ifndef TESTS_SUPPORT_CRASH_DEVICE_H_
#define TESTS_SUPPORT_CRASH_DEVICE_H_

#include <cstdint>
#include <deque>
#include <optional>
#include <random>
#include <vector>

#include "blockmap/base/block_device.h"
#include "blockmap/base/types.h"
#include "tests/support/disk_image.h"

namespace bootstream {

// A disk with a volatile cache, and with power and cables that fail when told
// to.  Writes are visible at once and durable after a flush; when the power
// goes, each write that was not flushed is kept, dropped or torn by the sector.
// Everything completes inside Submit unless it is held.
class CrashDevice final : public BlockDevice {
 public:
  explicit CrashDevice(uint64_t size_bytes)
      : CrashDevice(DiskImage(size_bytes)) {}
  explicit CrashDevice(const DiskImage& image)
      : durable_(image), visible_(image) {}

  void Submit(IoRequest& request) override;
  uint64_t size_bytes() const override { return durable_.size(); }
  // As a reader sees it now.
  const DiskImage& image() const { return visible_; }
  DiskImage& image() { return visible_; }

  // The power goes when flush or write number `n` (0 is the next one) arrives:
  // it and everything after it ends in kIo.
  void CutPowerAtFlush(uint64_t n) { cut_at_flush_ = flush_count_ + n; }
  void CutPowerAtWrite(uint64_t n) { cut_at_write_ = write_count_ + n; }
  void CutPower();
  bool has_power() const { return has_power_; }

  // Request number `n` from now ends in kIo once; the write is not done.
  void FailWrite(uint64_t n) { fail_write_ = write_count_ + n; }
  void FailFlush(uint64_t n) { fail_flush_ = flush_count_ + n; }
  // The process ends when flush or write number `n` arrives: it and everything
  // after it ends in kIo and is not done.  GoOn: the next one has no such
  // fault.
  void StopAtFlush(uint64_t n) { stop_at_flush_ = flush_count_ + n; }
  void StopAtWrite(uint64_t n) { stop_at_write_ = write_count_ + n; }
  void GoOn();
  // Writes that touch the place fail from now on.
  void FailWritesTo(uint64_t offset, uint64_t size) {
    refusing_.push_back({offset, size});
  }
  bool Refuses(uint64_t offset, uint64_t size) const;
  void FailReadsOf(uint64_t offset, uint64_t size) {
    failing_reads_ = ByteExtent{offset, size};
  }

  // What is on the disk when the power is back.
  DiskImage AfterPowerCut(std::mt19937_64& random) const;
  // The power is back, with that on the disk and no more faults to come.
  void RestorePower(std::mt19937_64& random);

  // While held, requests wait for Step (the oldest, or a random one) to carry
  // one out and complete it.
  void Hold(bool on = true) { held_ = on; }
  bool Step();
  bool StepRandom(std::mt19937_64& random);

  uint64_t read_count() const { return read_count_; }
  uint64_t write_count() const { return write_count_; }
  uint64_t flush_count() const { return flush_count_; }

 private:
  struct Unflushed {
    uint64_t offset;
    std::vector<std::byte> data;
  };
  // What has completed when a flush is submitted is what it covers.
  struct Waiting {
    IoRequest* request;
    uint64_t covers;
  };

  void Run(const Waiting& waiting);
  Status Do(const Waiting& waiting);
  Status DoRead(const IoRequest& request);
  Status DoWrite(const IoRequest& request);
  Status DoFlush(uint64_t covers);

  DiskImage durable_;
  DiskImage visible_;
  std::deque<Unflushed> unflushed_;  // completed, in order
  uint64_t completed_writes_ = 0;
  std::deque<Waiting> waiting_;
  bool held_ = false;
  bool has_power_ = true;
  uint64_t read_count_ = 0;
  uint64_t write_count_ = 0;
  uint64_t flush_count_ = 0;
  std::optional<uint64_t> cut_at_flush_;
  std::optional<uint64_t> cut_at_write_;
  std::optional<uint64_t> stop_at_flush_;
  std::optional<uint64_t> stop_at_write_;
  bool stopped_ = false;
  std::vector<ByteExtent> refusing_;
  std::optional<uint64_t> fail_write_;
  std::optional<uint64_t> fail_flush_;
  std::optional<ByteExtent> failing_reads_;
};

}  // namespace bootstream

#endif  // TESTS_SUPPORT_CRASH_DEVICE_H_
