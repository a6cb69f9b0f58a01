#include "initramfs/driver/checker.h"

#include <utility>

namespace bootstream {

Status Checker::Start(Scope scope) {
  if (running_) {
    return Error{ErrorCode::kUnavailable, "a check is under way already"};
  }
  std::vector<ImageChunk> chunks = ChunksOf(scope);
  running_ = ever_ = true;
  scope_ = scope;
  total_ = chunks.size();
  done_ = good_ = not_clean_ = touched_ = mended_ = failed_ = not_home_ = 0;
  failure_.clear();
  Spawn(Run(std::move(chunks)));
  return OkStatus();
}

std::vector<ImageChunk> Checker::ChunksOf(Scope scope) const {
  const Manifest& manifest = engine_.manifest();
  std::vector<ImageChunk> chunks;
  if (scope == Scope::kAll) {
    engine_.store().map().ForEach(
        [&](ImageChunk chunk, const ChunkState& state) {
          if (state.location.on_disk()) chunks.push_back(chunk);
        });
    return chunks;
  }
  for (const ChunkExtent& run : manifest.content().boot_set) {
    for (uint64_t i = 0; i < run.count; ++i) {
      chunks.push_back(ImageChunk{run.first + i});
    }
  }
  return chunks;
}

Task<void> Checker::Run(std::vector<ImageChunk> chunks) {
  for (const ImageChunk chunk : chunks) {
    if (stopped_) break;
    const Result<StreamEngine::CheckResult> result =
        co_await engine_.CheckChunk(chunk);
    Count(chunk, result);
    // Everybody else goes first.
    co_await executor_.Yield();
  }
  running_ = false;
}

void Checker::Count(ImageChunk chunk,
                    const Result<StreamEngine::CheckResult>& result) {
  using CheckResult = StreamEngine::CheckResult;
  ++done_;
  if (scope_ == Scope::kBoot) {
    const Location at = engine_.store().map().Get(chunk).location;
    not_home_ += at != Location::At(HomeOf(chunk));
  }
  if (!result) {
    ++failed_;
    failure_ = result.error().message;
    return;
  }
  good_ += *result == CheckResult::kGood;
  not_clean_ += *result == CheckResult::kNotClean;
  touched_ += *result == CheckResult::kTouched;
  mended_ += *result == CheckResult::kMended;
  if (*result != CheckResult::kUnreadable) return;
  ++failed_;
  failure_ = "image chunk " + std::to_string(chunk.value) +
             " is lost: only the disk had it";
}

nlohmann::json Checker::Report() const {
  return {{"state", running_ ? "running"
                    : ever_  ? "done"
                             : "none"},
          {"scope", scope_ == Scope::kBoot ? "boot" : "all"},
          {"total", total_},
          {"done", done_},
          {"good", good_},
          {"not_clean", not_clean_},
          {"touched", touched_},
          {"mended", mended_},
          {"not_home", not_home_},
          {"failed", failed_},
          {"failure", failure_}};
}

}  // namespace bootstream
