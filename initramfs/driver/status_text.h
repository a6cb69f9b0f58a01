#ifndef INITRAMFS_DRIVER_STATUS_TEXT_H_
#define INITRAMFS_DRIVER_STATUS_TEXT_H_

#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

// The status object of control.md as people read it.

namespace bootstream {

// "3.0 MiB"
std::string Amount(double bytes);

// How many chunks a second come home, by looking again and again.
class Rate {
 public:
  // Seconds until `left` more have come; nullopt: it cannot be told yet.
  std::optional<double> SecondsFor(double done, double left) {
    const auto now = std::chrono::steady_clock::now();
    if (!begun_) {
      begun_ = now;
      first_ = done;
      return std::nullopt;
    }
    const std::chrono::duration<double> passed = now - *begun_;
    if (done <= first_ || passed.count() < 2) return std::nullopt;
    return left / ((done - first_) / passed.count());
  }

 private:
  std::optional<std::chrono::steady_clock::time_point> begun_;
  double first_ = 0;
};

// On the standard output.  Throws nlohmann::json::exception if the object is
// not what this program knows.
void PrintStatus(const nlohmann::json& status, Rate& rate);

}  // namespace bootstream

#endif  // INITRAMFS_DRIVER_STATUS_TEXT_H_
