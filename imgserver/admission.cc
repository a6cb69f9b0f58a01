#include "imgserver/admission.h"

namespace bootstream {

std::optional<Admission::Ticket> Admission::Enter(const std::string& client) {
  const std::lock_guard lock(mutex_);
  if (total_count_ >= total_max_) return std::nullopt;
  uint32_t& count = client_counts_[client];
  if (count >= per_client_max_) return std::nullopt;
  ++count;
  ++total_count_;
  return Ticket(this, client);
}

void Admission::Leave(const std::string& client) {
  const std::lock_guard lock(mutex_);
  --total_count_;
  const auto found = client_counts_.find(client);
  if (--found->second == 0) client_counts_.erase(found);
}

}  // namespace bootstream
