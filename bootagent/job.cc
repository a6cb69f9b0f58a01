#include "bootagent/job.h"

#include <charconv>

namespace bootstream {

StopPoints::StopPoints(std::string_view wanted) {
  const size_t colon = wanted.find(':');
  name_ = wanted.substr(0, colon);
  if (colon != std::string_view::npos) {
    const auto count = wanted.substr(colon + 1);
    std::from_chars(count.data(), count.data() + count.size(), left_);
  }
}

Status StopPoints::Reach(std::string_view name) {
  if (name_.empty() || name != name_ || --left_ != 0) return OkStatus();
  return Error{ErrorCode::kUnavailable, "stopped at " + name_ + ", as asked"};
}

MoverOptions Job::Mover(const std::string& prefix) const {
  MoverOptions options;
  options.batch_chunks = batch_chunks;
  options.after = [this, prefix](std::string_view what) {
    return stops.Reach(prefix + "-" + std::string(what));
  };
  options.progress = [this](uint64_t chunks) { progress.Add(chunks); };
  return options;
}

}  // namespace bootstream
