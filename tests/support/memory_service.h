#ifndef TESTS_SUPPORT_MEMORY_SERVICE_H_
#define TESTS_SUPPORT_MEMORY_SERVICE_H_

#include <span>
#include <string>
#include <utility>
#include <vector>

#include "blockmap/base/block_service.h"

namespace bootstream {

// A BlockService over memory, its own or somebody's mapping.  Keeps a log of
// calls where asked to, can hold reads and fail writes.  One thread.
class MemoryService final : public BlockService {
 public:
  struct Call {
    enum class Kind { kRead, kWrite, kFlush, kDiscard, kWriteZeroes };
    Kind kind = Kind::kFlush;
    uint64_t offset = 0;
    uint64_t size = 0;
    bool fua = false;
    bool operator==(const Call&) const = default;
  };

  explicit MemoryService(uint64_t size_bytes)
      : own_(size_bytes), bytes_(own_) {}
  // `bytes` must outlive the service.
  explicit MemoryService(std::span<std::byte> bytes) : bytes_(bytes) {}
  MemoryService(const MemoryService&) = delete;
  MemoryService& operator=(const MemoryService&) = delete;

  uint64_t size_bytes() const override { return bytes_.size(); }
  Task<Status> Read(uint64_t offset, std::span<std::byte> out) override;
  Task<Status> Write(uint64_t offset, std::span<const std::byte> data,
                     bool fua) override;
  Task<Status> Flush() override;
  Task<Status> Discard(uint64_t offset, uint64_t size) override;
  Task<Status> WriteZeroes(uint64_t offset, uint64_t size, bool fua) override;

  std::span<std::byte> bytes() { return bytes_; }
  void set_logging(bool on) { logging_ = on; }
  const std::vector<Call>& calls() const { return calls_; }
  // Reads wait until `gate` is set; nullptr: they do not.
  void HoldReads(Event* gate) { gate_ = gate; }
  // Every later call fails so.
  void FailWith(ErrorCode code) { failure_ = Error{code, "injected"}; }
  // The payload of the last write began on a 4 KiB boundary.
  bool last_write_aligned() const { return last_write_aligned_; }

 private:
  // Logs the call; an error if one is injected or the range is outside, which
  // is a mistake of the front end.
  Status Begin(Call call);

  std::vector<std::byte> own_;
  std::span<std::byte> bytes_;
  bool logging_ = false;
  std::vector<Call> calls_;
  Event* gate_ = nullptr;  // not owned
  Status failure_;
  bool last_write_aligned_ = false;
};

}  // namespace bootstream

#endif  // TESTS_SUPPORT_MEMORY_SERVICE_H_
