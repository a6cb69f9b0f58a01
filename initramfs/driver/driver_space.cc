#include <iostream>

#include "initramfs/driver/driver.h"

// Room in the region: what is said of it, and the policy when there is none.

namespace bootstream {

SpaceFacts StreamDriver::Space() const {
  const bool attached = source_device_ && source_device_->in_use();
  return GatherSpaceFacts(*engine_, loop_.Now(), attached);
}

void StreamDriver::LookAtSpace(const SpaceFacts& facts) {
  space_warnings_.Look(facts);
  if (WantsSource(facts) && !committing_) Spawn(GiveUpByPolicy());
}

// The same as when somebody says commit.
Task<void> StreamDriver::GiveUpByPolicy() {
  const auto mark = deciding_.Begin();
  SayOfSpace(
      "the region is full and a write waits: giving up the old system, "
      "as --when-full give-up-source says");
  const Status status = co_await GiveUpSource();
  if (status) {
    SayOfSpace("the old system was given up; there is no way back to it");
  } else {
    SayOfSpace("the old system could not be given up: " +
               status.error().message);
  }
}

void StreamDriver::SayOfSpace(const std::string& sentence) const {
  std::cerr << "streamd: " << options_.disk << ": " << sentence << std::endl;
}

}  // namespace bootstream
