#include "tests/model/model_disk.h"

#include <array>
#include <cassert>
#include <cstring>
#include <span>

#include "blockmap/base/types.h"

namespace bootstream {
namespace {

using Page = std::array<std::byte, kBlockBytes>;

uint64_t HashOf(uint64_t number, const Page& page) {
  constexpr uint64_t kFactor = 0x9e3779b97f4a7c15;
  std::array<uint64_t, 4> lanes{number, ~number, number ^ kFactor, kFactor};
  for (size_t at = 0; at < page.size(); at += sizeof(lanes)) {
    std::array<uint64_t, 4> words;
    std::memcpy(words.data(), page.data() + at, sizeof(words));
    for (size_t i = 0; i < lanes.size(); ++i) {
      lanes[i] = (lanes[i] ^ words[i]) * kFactor;
      lanes[i] ^= lanes[i] >> 29;
    }
  }
  uint64_t hash = 0;
  for (const uint64_t lane : lanes) hash = (hash ^ lane) * kFactor;
  return hash ^ hash >> 32;
}

}  // namespace

void HashedImage::Write(uint64_t offset, std::span<const std::byte> data) {
  Page page;
  while (!data.empty()) {
    const uint64_t number = offset / kBlockBytes;
    const uint64_t in_page = offset % kBlockBytes;
    const size_t size = std::min<size_t>(kBlockBytes - in_page, data.size());
    image_.Read(number * kBlockBytes, page);
    hash_ -= HashOf(number, page);
    std::memcpy(page.data() + in_page, data.data(), size);
    hash_ += HashOf(number, page);
    image_.Write(offset, data.first(size));
    data = data.subspan(size);
    offset += size;
  }
}

void ModelDisk::Submit(IoRequest& request) {
  assert(request.offset % kSectorBytes == 0);
  assert(request.size % kSectorBytes == 0);
  assert(reinterpret_cast<uintptr_t>(request.data) % kSectorBytes == 0);
  assert(request.offset + request.size <= visible_.size());
  const Waiting waiting{&request, completed_count_};
  if (held_) {
    waiting_.push_back(waiting);
  } else {
    Do(waiting);
  }
}

void ModelDisk::Release() {
  held_ = false;
  while (!waiting_.empty()) Complete(0);
}

void ModelDisk::Complete(size_t i) {
  const Waiting waiting = waiting_[i];
  waiting_.erase(waiting_.begin() + static_cast<ptrdiff_t>(i));
  Do(waiting);
}

void ModelDisk::Do(const Waiting& waiting) {
  IoRequest& request = *waiting.request;
  const std::span<std::byte> data(request.data, request.size);
  switch (request.op) {
    case IoRequest::Op::kRead:
      visible_.Read(request.offset, data);
      break;
    case IoRequest::Op::kWrite:
      visible_.Write(request.offset, data);
      completed_.push_back({request.offset, {data.begin(), data.end()}});
      ++completed_count_;
      break;
    case IoRequest::Op::kFlush: {
      const uint64_t later = completed_count_ - waiting.covers;
      size_t done = 0;
      for (; completed_.size() - done > later; ++done) {
        durable_.Write(completed_[done].offset, completed_[done].data);
      }
      completed_.erase(completed_.begin(),
                       completed_.begin() + static_cast<ptrdiff_t>(done));
      break;
    }
  }
  request.complete(request, OkStatus());
}

std::string ModelDisk::Describe(size_t i) const {
  const IoRequest& request = *waiting_[i].request;
  const std::string where = " at sector " +
                            std::to_string(request.offset / kSectorBytes) +
                            ", " + std::to_string(request.size / kSectorBytes);
  switch (request.op) {
    case IoRequest::Op::kRead:
      return "read" + where;
    case IoRequest::Op::kWrite:
      return "write" + where;
    case IoRequest::Op::kFlush:
      break;
  }
  return "flush";
}

size_t ModelDisk::loose_count() const {
  size_t count = completed_.size();
  for (const Waiting& waiting : waiting_) {
    if (waiting.request->op == IoRequest::Op::kWrite) ++count;
  }
  return count;
}

HashedImage ModelDisk::AfterCut(const std::vector<Fate>& fates,
                                std::mt19937_64& random) const {
  HashedImage image = durable_;
  size_t next = 0;
  const auto put = [&](uint64_t offset, std::span<const std::byte> data) {
    const Fate fate = fates[next++];
    if (fate == Fate::kKept) image.Write(offset, data);
    if (fate != Fate::kTorn) return;
    for (size_t at = 0; at < data.size(); at += kSectorBytes) {
      if (random() % 2 == 0) continue;
      image.Write(offset + at, data.subspan(at, kSectorBytes));
    }
  };
  for (const Loose& loose : completed_) put(loose.offset, loose.data);
  for (const Waiting& waiting : waiting_) {
    const IoRequest& request = *waiting.request;
    if (request.op == IoRequest::Op::kWrite) {
      put(request.offset, {request.data, request.size});
    }
  }
  return image;
}

}  // namespace bootstream
