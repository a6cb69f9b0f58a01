#ifndef IMGSERVER_ADMISSION_H_
#define IMGSERVER_ADMISSION_H_

#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>

namespace bootstream {

// Counts connections, in all and by client, and turns away what is above the
// limits.  Any number of threads.
class Admission {
 public:
  // The right to one connection, until it goes out of scope.  The Admission
  // must outlive it.
  class Ticket {
   public:
    Ticket(Ticket&& other) noexcept
        : owner_(std::exchange(other.owner_, nullptr)),
          client_(std::move(other.client_)) {}
    Ticket& operator=(Ticket&&) = delete;
    ~Ticket() {
      if (owner_ != nullptr) owner_->Leave(client_);
    }

   private:
    friend class Admission;
    Ticket(Admission* owner, std::string client)
        : owner_(owner), client_(std::move(client)) {}

    Admission* owner_;  // not owned; null once moved from
    std::string client_;
  };

  Admission(uint32_t total_max, uint32_t per_client_max)
      : total_max_(total_max), per_client_max_(per_client_max) {}

  // Nothing if `client` (see ClientKey) or the server has enough connections.
  std::optional<Ticket> Enter(const std::string& client);

 private:
  void Leave(const std::string& client);

  const uint32_t total_max_;
  const uint32_t per_client_max_;
  std::mutex mutex_;
  uint32_t total_count_ = 0;  // guarded by mutex_, as is the next
  std::unordered_map<std::string, uint32_t> client_counts_;
};

}  // namespace bootstream

#endif  // IMGSERVER_ADMISSION_H_
