#include "blockmap/disk/source_view.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <vector>

#include "blockmap/base/aligned_buffer.h"
#include "tests/support/memory_device.h"

namespace bootstream {
namespace {

constexpr uint32_t kChunk = kChunkBytesMin;
constexpr Grid kGrid{kChunk, 16 * uint64_t{kChunk}};
constexpr DiskChunk kSource{3};
constexpr DiskChunk kFirst{10};
constexpr DiskChunk kSecond{11};
constexpr uint8_t kContent = 0x33;
constexpr uint8_t kAnothers = 0xee;

// A disk whose reads take their bytes when they are told to, and end later.
class SlowDevice final : public BlockDevice {
 public:
  explicit SlowDevice(MemoryDevice& next) : next_(next) {}
  void Submit(IoRequest& request) override {
    ++count_;
    request_ = &request;
  }
  uint64_t size_bytes() const override { return next_.size_bytes(); }
  void TakeBytes() {
    const auto from = next_.bytes().subspan(request_->offset, request_->size);
    std::ranges::copy(from, request_->data);
  }
  void End() {
    IoRequest& request = *request_;
    request_ = nullptr;
    request.complete(request, OkStatus());
  }
  bool is_reading() const { return request_ != nullptr; }
  int count() const { return count_; }

 private:
  MemoryDevice& next_;
  IoRequest* request_ = nullptr;
  int count_ = 0;
};

class SourceViewTest : public testing::Test {
 protected:
  void Fill(DiskChunk chunk, uint8_t value) {
    std::memset(memory_.bytes().data() + kGrid.offset_of(chunk.value), value,
                kChunk);
  }
  Task<void> Read() {
    const Status status =
        co_await view_.Read(kGrid.offset_of(kSource.value), out_.span());
    done_ = status.has_value();
  }
  void Answer() {
    slow_.TakeBytes();
    slow_.End();
  }
  bool Holds(uint8_t value) const {
    return std::ranges::all_of(
        out_.span(), [&](std::byte b) { return b == std::byte{value}; });
  }

  MemoryDevice memory_{kGrid.size_bytes};
  SlowDevice slow_{memory_};
  BlockMap map_;
  SourceView view_{slow_, map_, kGrid};
  AlignedBuffer out_{kChunk};
  bool done_ = false;
};

TEST_F(SourceViewTest, AReadThatARelocationOvertakesIsMadeAgain) {
  Fill(kSource, kContent);
  Spawn(Read());
  Fill(kFirst, kContent);
  map_.SetRelocation(kSource, kFirst);
  Fill(kSource, kAnothers);
  Answer();
  ASSERT_FALSE(done_);
  ASSERT_TRUE(slow_.is_reading());
  Answer();
  EXPECT_TRUE(done_);
  EXPECT_TRUE(Holds(kContent));
}

TEST_F(SourceViewTest, AChunkThatHasGoneAndComeBackMeanwhileIsReadAgain) {
  Fill(kFirst, kContent);
  map_.SetRelocation(kSource, kFirst);
  Spawn(Read());
  map_.SetRelocation(kSource, kSecond);
  Fill(kFirst, kAnothers);
  slow_.TakeBytes();
  Fill(kFirst, kContent);
  map_.SetRelocation(kSource, kFirst);
  slow_.End();
  ASSERT_FALSE(done_);
  Answer();
  EXPECT_TRUE(done_);
  EXPECT_TRUE(Holds(kContent));
}

TEST_F(SourceViewTest, AnothersRelocationCostsNoSecondRead) {
  Fill(kSource, kContent);
  Spawn(Read());
  map_.SetRelocation(DiskChunk{4}, kSecond);
  Answer();
  EXPECT_TRUE(done_);
  EXPECT_EQ(slow_.count(), 1);
  EXPECT_TRUE(Holds(kContent));
}

}  // namespace
}  // namespace bootstream
