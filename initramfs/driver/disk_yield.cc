#include "initramfs/driver/disk_yield.h"

namespace bootstream {

Task<void> DiskYield::Turn() {
  if (options_.busy_percent == 0) co_return;
  const AsyncSharedMutex::Guard turn = co_await turn_.Lock();
  Look();
  while (IsBusy() && executor_.Now() - last_turn_ < options_.wait_max) {
    co_await executor_.Sleep(options_.look_every);
    Look();
  }
  last_turn_ = executor_.Now();
}

void DiskYield::Look() {
  const Duration now = executor_.Now();
  const Duration since = now - last_look_;
  if (since < options_.look_every) return;
  if (since > options_.look_every * kLooks) looks_.reset();  // long ago
  looks_ <<= 1;
  looks_[0] = in_use_();
  last_look_ = now;
}

}  // namespace bootstream
