#ifndef INITRAMFS_DRIVER_CONTROL_CLIENT_H_
#define INITRAMFS_DRIVER_CONTROL_CLIENT_H_

#include <nlohmann/json.hpp>
#include <string>

#include "blockmap/base/result.h"
#include "blockmap/base/unique_fd.h"

namespace bootstream {

// The other end of ControlServer; blocking.  One thread.
class ControlClient {
 public:
  // kNotFound: no driver listens at `path`.
  static Result<ControlClient> Connect(const std::string& path);
  // Send `request`, wait for its reply.  A reply that is not ok is kRefused
  // with its sentence.
  Result<nlohmann::json> Ask(const nlohmann::json& request);

 private:
  explicit ControlClient(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
  std::string pending_;
};

}  // namespace bootstream

#endif  // INITRAMFS_DRIVER_CONTROL_CLIENT_H_
