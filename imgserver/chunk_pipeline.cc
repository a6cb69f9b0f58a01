#include "imgserver/chunk_pipeline.h"

#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>

#include "blockmap/base/coding.h"
#include "blockmap/image/pack.h"
#include "blockmap/image/signing.h"

namespace bootstream {
namespace {

constexpr size_t kWindowPerThread = 32;

class Pipeline {
 public:
  Pipeline(const DiskImage& image, const Grid& grid,
           std::span<const uint64_t> order, const PipelineOptions& options,
           const std::function<bool(const Sha256&)>& known)
      : image_(image),
        grid_(grid),
        order_(order),
        options_(options),
        known_(known),
        slots_(options.thread_count * kWindowPerThread) {
    for (unsigned i = 0; i < options.thread_count; ++i) {
      threads_.emplace_back([this] { Work(); });
    }
  }
  ~Pipeline() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    for (auto& thread : threads_) thread.join();
  }

  Status Drain(const std::function<Status(PreparedChunk)>& sink) {
    for (size_t i = 0; i < order_.size(); ++i) {
      auto chunk = Next();
      if (!chunk) return chunk.error();
      if (auto status = sink(std::move(*chunk)); !status) return status;
    }
    return OkStatus();
  }

 private:
  Result<PreparedChunk> Next() {
    std::unique_lock lock(mutex_);
    auto& slot = slots_[drained_ % slots_.size()];
    changed_.wait(lock, [&slot] { return slot.has_value(); });
    Result<PreparedChunk> chunk = std::move(*slot);
    slot.reset();
    ++drained_;
    lock.unlock();
    changed_.notify_all();
    return chunk;
  }

  void Work() {
    FrameEncoder encoder(options_.level);
    std::vector<std::byte> buffer(grid_.chunk_bytes);
    while (true) {
      size_t index = 0;
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] {
          return stopping_ || claimed_ == order_.size() ||
                 claimed_ < drained_ + slots_.size();
        });
        if (stopping_ || claimed_ == order_.size()) return;
        index = claimed_++;
      }
      auto prepared = Prepare(order_[index], encoder, buffer);
      {
        const std::lock_guard lock(mutex_);
        slots_[index % slots_.size()].emplace(std::move(prepared));
      }
      changed_.notify_all();
    }
  }

  Result<PreparedChunk> Prepare(uint64_t chunk, FrameEncoder& encoder,
                                std::vector<std::byte>& buffer) const {
    PreparedChunk out;
    out.chunk = chunk;
    const auto bytes = std::span(buffer).first(grid_.bytes_of(chunk));
    if (auto status = image_.Read(grid_.offset_of(chunk), bytes); !status) {
      return status.error();
    }
    out.zero = AllZero(bytes);
    if (out.zero) return out;
    out.digest = Sha256Of(bytes);
    if (known_(out.digest)) return out;
    auto frame = encoder.Encode(bytes);
    if (!frame) return frame.error();
    out.frame = std::move(*frame);
    return out;
  }

  const DiskImage& image_;
  const Grid grid_;
  const std::span<const uint64_t> order_;
  const PipelineOptions options_;
  const std::function<bool(const Sha256&)>& known_;
  std::mutex mutex_;
  std::condition_variable changed_;
  // Under mutex_; the chunk with index i is put into slot i modulo their count.
  std::vector<std::optional<Result<PreparedChunk>>> slots_;
  size_t claimed_ = 0;
  size_t drained_ = 0;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace

Status PrepareChunks(const DiskImage& image, const Grid& grid,
                     std::span<const uint64_t> order,
                     const PipelineOptions& options,
                     const std::function<bool(const Sha256&)>& known,
                     const std::function<Status(PreparedChunk)>& sink) {
  Pipeline pipeline(image, grid, order, options, known);
  return pipeline.Drain(sink);
}

}  // namespace bootstream
