#include "blockmap/map/kept_changes.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cassert>
#include <cerrno>
#include <cstring>

namespace bootstream {

// `bytes` grows after the bytes are there.
struct KeptChanges::Log {
  uint64_t number;           // of two logs the higher is the newer
  uint64_t bytes;            // of records
  uint64_t commit_sequence;  // of the commit that takes them; kNone: not yet
};

struct KeptChanges::Header {
  uint64_t magic;
  Uuid migration_id;
  std::array<Log, 2> logs;
};

namespace {

constexpr uint64_t kMagic = 0x3153474e41484342;  // "BCHANGS1"
constexpr uint64_t kHeaderBytes = 4096;
constexpr uint64_t kWindowBytesMin = 256 << 10;
// The file is sparse: each log has an address range of its own.
constexpr uint64_t kWindowBytesMax = uint64_t{1} << 36;

uint64_t OffsetOf(int index) {
  return kHeaderBytes + static_cast<uint64_t>(index) * kWindowBytesMax;
}

// What another process will read comes after what was stored before.
void Store(uint64_t& field, uint64_t value) {
  std::atomic_ref<uint64_t>(field).store(value, std::memory_order_release);
}

}  // namespace

KeptChanges::~KeptChanges() {
  if (header_ != nullptr) ::munmap(header_, kHeaderBytes);
  for (const Window& window : windows_) {
    if (window.data != nullptr) ::munmap(window.data, window.capacity);
  }
}

Result<std::unique_ptr<KeptChanges>> KeptChanges::Open(
    UniqueFd file, const Uuid& migration_id) {
  std::unique_ptr<KeptChanges> changes(new KeptChanges(std::move(file)));
  if (auto s = changes->MapHeader(migration_id); !s) return s.error();
  for (int index = 0; index < 2; ++index) {
    if (auto s = changes->Reserve(index, changes->log(index).bytes); !s) {
      return s.error();
    }
  }
  return changes;
}

Status KeptChanges::MapHeader(const Uuid& migration_id) {
  struct stat info {};
  if (::fstat(file_.get(), &info) != 0) return ErrnoError(errno, "memfd");
  if (::fallocate(file_.get(), 0, 0, kHeaderBytes) != 0) {
    return ErrnoError(errno, "memory for the map's changes");
  }
  void* memory = ::mmap(nullptr, kHeaderBytes, PROT_READ | PROT_WRITE,
                        MAP_SHARED, file_.get(), 0);
  if (memory == MAP_FAILED) return ErrnoError(errno, "map memfd");
  header_ = static_cast<Header*>(memory);
  if (header_->magic == 0) {
    header_->migration_id = migration_id;
    for (Log& log : header_->logs) log = {0, 0, kNone};
    Store(header_->magic, kMagic);
  }
  if (header_->magic != kMagic || header_->migration_id != migration_id) {
    return Error{ErrorCode::kCorrupt,
                 "map: the kept changes belong to something else"};
  }
  for (const Log& log : header_->logs) {
    if (log.bytes > kWindowBytesMax) {
      return Error{ErrorCode::kCorrupt, "map: the kept changes are damaged"};
    }
  }
  return OkStatus();
}

// Memory is taken here, with an error when there is none: a page that is not
// there would be a signal later.
Status KeptChanges::Reserve(int index, uint64_t bytes) {
  Window& window = windows_[static_cast<size_t>(index)];
  if (window.data != nullptr && bytes <= window.capacity) return OkStatus();
  const Error no_memory{ErrorCode::kNoSpace,
                        "map: no memory to keep changes in"};
  const uint64_t capacity = std::bit_ceil(std::max(bytes, kWindowBytesMin));
  if (capacity > kWindowBytesMax) return no_memory;
  const auto offset = static_cast<off_t>(OffsetOf(index));
  if (::fallocate(file_.get(), 0, offset, static_cast<off_t>(capacity)) != 0) {
    return no_memory;
  }
  void* memory = ::mmap(nullptr, capacity, PROT_READ | PROT_WRITE, MAP_SHARED,
                        file_.get(), offset);
  if (memory == MAP_FAILED) return no_memory;
  if (window.data != nullptr) ::munmap(window.data, window.capacity);
  window = {static_cast<std::byte*>(memory), capacity};
  return OkStatus();
}

KeptChanges::Log& KeptChanges::log(int index) {
  return header_->logs[static_cast<size_t>(index)];
}

void KeptChanges::Clear(int index) {
  Store(log(index).bytes, 0);
  Store(log(index).commit_sequence, kNone);
}

Result<std::vector<Record>> KeptChanges::Recover(uint64_t next_sequence) {
  std::vector<Record> records;
  const int older = log(0).number <= log(1).number ? 0 : 1;
  for (const int index : {older, 1 - older}) {
    const Log& from = log(index);
    // A commit of that sequence is in the journal, or it never got there.
    const bool durable =
        from.commit_sequence != kNone && next_sequence > from.commit_sequence;
    if (durable) Clear(index);
    auto some =
        DecodeRecords({windows_[static_cast<size_t>(index)].data, from.bytes});
    if (!some) return Annotate(some.error(), "map: the kept changes");
    std::move(some->begin(), some->end(), std::back_inserter(records));
  }
  recovering_ = !records.empty();
  for (int index = 0; !recovering_ && index < 2; ++index) Clear(index);
  return records;
}

Status KeptChanges::Add(const Record& record) {
  if (recovering_) return OkStatus();
  std::vector<std::byte> bytes;
  EncodeRecord(record, bytes);
  const uint64_t end = log(active_).bytes;
  if (auto s = Reserve(active_, end + bytes.size()); !s) return s;
  std::memcpy(windows_[static_cast<size_t>(active_)].data + end, bytes.data(),
              bytes.size());
  Store(log(active_).bytes, end + bytes.size());
  return OkStatus();
}

void KeptChanges::BeginBatch() {
  if (recovering_) {
    in_batch_ = {true, true};
    return;
  }
  if (log(active_).bytes == 0) return;
  const int next = 1 - active_;
  assert(log(next).bytes == 0);
  in_batch_[static_cast<size_t>(active_)] = true;
  Store(log(next).number, log(active_).number + 1);
  active_ = next;
}

void KeptChanges::Writing(uint64_t sequence) {
  for (int index = 0; index < 2; ++index) {
    if (in_batch_[static_cast<size_t>(index)]) {
      Store(log(index).commit_sequence, sequence);
    }
  }
}

void KeptChanges::Durable() {
  for (int index = 0; index < 2; ++index) {
    if (recovering_ || in_batch_[static_cast<size_t>(index)]) Clear(index);
  }
  in_batch_ = {};
  recovering_ = false;
}

}  // namespace bootstream
