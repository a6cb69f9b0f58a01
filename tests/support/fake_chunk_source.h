#ifndef TESTS_SUPPORT_FAKE_CHUNK_SOURCE_H_
#define TESTS_SUPPORT_FAKE_CHUNK_SOURCE_H_

#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "blockmap/image/chunk_source.h"

namespace bootstream {

// A ChunkSource over an image in memory.  Answers inside Fetch, until Hold();
// from then on a fetch waits for the test to complete or fail it.
class FakeChunkSource final : public ChunkSource {
 public:
  struct Call {
    ImageChunk chunk;
    FetchClass fetch_class;
    bool operator==(const Call&) const = default;
  };

  FakeChunkSource(std::vector<std::byte> image,
                  uint32_t chunk_bytes = kChunkBytesDefault)
      : FakeChunkSource(
            std::make_shared<const std::vector<std::byte>>(std::move(image)),
            chunk_bytes) {}
  // Many sources may share an image.
  FakeChunkSource(std::shared_ptr<const std::vector<std::byte>> image,
                  uint32_t chunk_bytes)
      : image_(std::move(image)), grid_{chunk_bytes, image_->size()} {}
  ~FakeChunkSource() override;

  Task<Result<AlignedBuffer>> Fetch(ImageChunk chunk,
                                    FetchClass fetch_class) override;
  void Promote(ImageChunk chunk, FetchClass fetch_class) override;
  FetchStatistics statistics() const override { return statistics_; }

  void Hold() { holding_ = true; }
  // Answers all that wait, and from now on inside Fetch again.
  void Release();
  // The oldest fetch of `chunk` that waits; false if there is none.
  bool Complete(ImageChunk chunk);
  bool Fail(ImageChunk chunk, Error error);
  // The next fetch, or all from now on if `always`, fails.
  void FailNext(Error error, bool always = false);
  void StopFailing() { failure_.reset(); }

  // Chunks that wait, oldest first.
  std::vector<ImageChunk> waiting() const;
  // Everything that was ever asked.
  const std::vector<Call>& fetches() const { return fetches_; }
  const std::vector<Call>& promotions() const { return promotions_; }
  std::span<const std::byte> image() const { return *image_; }

 private:
  struct Waiter {
    ImageChunk chunk;
    Event done;
    std::optional<Error> error;
  };
  AlignedBuffer BytesOf(ImageChunk chunk) const;
  bool Finish(ImageChunk chunk, std::optional<Error> error);

  std::shared_ptr<const std::vector<std::byte>> image_;
  Grid grid_;
  bool holding_ = false;
  std::optional<Error> failure_;
  bool failure_stays_ = false;
  std::deque<Waiter*> waiters_;  // on the frames of Fetch
  std::vector<Call> fetches_;
  std::vector<Call> promotions_;
  FetchStatistics statistics_;
};

}  // namespace bootstream

#endif  // TESTS_SUPPORT_FAKE_CHUNK_SOURCE_H_
