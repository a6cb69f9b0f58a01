// A link with a rate and a delay between two network namespaces, for tests and
// benchmarks where netem is not there:
//
//   delay_link NS_A NS_B --mbit 1000 --delay-us 10000 [--queue-ms 50]
//
// makes a TUN device "wire" in each (the caller gives it an address, and sets
// it up) and carries packets both ways until it is told to end: each leaves the
// queue at the link's rate, and arrives after the delay.  A queue holds as much
// as the link sends in --queue-ms; what comes above that is lost.  TCP stays
// one connection from end to end, as it would not behind a proxy.
//
// Large segments pass whole (IFF_VNET_HDR, TSO) and count as the frames that
// they would be on the wire.  Sources: kernel Documentation/networking/tuntap,
// virtio 1.2 section 5.1.6.

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <deque>
#include <iostream>
#include <optional>
#include <string>
#include <vector>

#include "blockmap/base/unique_fd.h"

namespace bootstream {
namespace {

using Clock = std::chrono::steady_clock;
using Nanoseconds = std::chrono::nanoseconds;

// Preamble, Ethernet header and checksum, gap between frames; IP and TCP with
// time stamps, which each frame of a segment repeats.
constexpr uint64_t kFrameBytes = 38;
constexpr uint64_t kHeaderBytes = 52;

// virtio_net_hdr; the kernel's header for it is not for C++.
struct SegmentHeader {
  uint8_t flags;
  uint8_t gso_type;  // 0: one frame
  uint16_t hdr_len;
  uint16_t gso_size;
  uint16_t csum_start;
  uint16_t csum_offset;
};
static_assert(sizeof(SegmentHeader) == 10);

struct Link {
  double mbit = 1000;
  uint64_t delay_us = 0;
  uint64_t queue_ms = 50;
};

std::optional<UniqueFd> OpenTun(const std::string& ns) {
  const UniqueFd space(
      ::open(("/run/netns/" + ns).c_str(), O_RDONLY | O_CLOEXEC));
  if (!space || ::setns(space.get(), CLONE_NEWNET) != 0) return std::nullopt;
  UniqueFd tun(::open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK));
  if (!tun) return std::nullopt;
  ifreq request{};
  request.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR;
  std::strncpy(request.ifr_name, "wire", IFNAMSIZ - 1);
  if (::ioctl(tun.get(), TUNSETIFF, &request) != 0) return std::nullopt;
  if (::ioctl(tun.get(), TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4) != 0) {
    return std::nullopt;
  }
  return tun;
}

// One direction.
class Direction {
 public:
  Direction(int from, int to, const Link& link)
      : from_(from),
        to_(to),
        ns_per_byte_(8000.0 / link.mbit),
        delay_(std::chrono::microseconds(link.delay_us)),
        queue_(std::chrono::milliseconds(link.queue_ms)) {}

  // What has come, onto the link.
  void Take(Clock::time_point now) {
    for (int i = 0; i < 64; ++i) {
      const ssize_t n = ::read(from_, buffer_.data(), buffer_.size());
      if (n <= static_cast<ssize_t>(sizeof(SegmentHeader))) return;
      const auto start = std::max(now, free_at_);
      if (start - now > queue_) continue;  // the queue is full
      free_at_ = start + Duration(static_cast<size_t>(n));
      under_way_.push_back(
          {free_at_ + delay_, {buffer_.begin(), buffer_.begin() + n}});
    }
  }
  // What has arrived, out of it.
  void Give(Clock::time_point now) {
    while (!under_way_.empty() && under_way_.front().arrives <= now) {
      const auto& packet = under_way_.front().bytes;
      // A receiver that does not take it: lost, as anywhere.
      (void)!::write(to_, packet.data(), packet.size());
      under_way_.pop_front();
    }
  }
  Clock::time_point next() const {
    return under_way_.empty() ? Clock::time_point::max()
                              : under_way_.front().arrives;
  }

 private:
  struct Packet {
    Clock::time_point arrives;
    std::vector<char> bytes;
  };

  // That the packet occupies the wire.
  Nanoseconds Duration(size_t size) const {
    SegmentHeader header;
    std::memcpy(&header, buffer_.data(), sizeof header);
    const uint64_t packet = size - sizeof header;
    uint64_t frames = 1;
    if (header.gso_type != 0 && header.gso_size > 0) {
      frames = (packet + header.gso_size - 1) / header.gso_size;
    }
    const uint64_t bytes =
        packet + frames * kFrameBytes + (frames - 1) * kHeaderBytes;
    return Nanoseconds(
        static_cast<int64_t>(static_cast<double>(bytes) * ns_per_byte_));
  }

  int from_;
  int to_;
  double ns_per_byte_;
  Nanoseconds delay_;
  Nanoseconds queue_;
  Clock::time_point free_at_{};
  std::deque<Packet> under_way_;
  std::array<char, 70000> buffer_{};
};

void Carry(int a, int b, const Link& link) {
  Direction there(a, b, link);
  Direction back(b, a, link);
  std::array<pollfd, 2> polled{{{a, POLLIN, 0}, {b, POLLIN, 0}}};
  for (;;) {
    const auto next = std::min(there.next(), back.next());
    timespec wait{};
    if (next != Clock::time_point::max()) {
      const auto left =
          std::max<Nanoseconds>(next - Clock::now(), Nanoseconds(0));
      wait.tv_sec = left.count() / 1'000'000'000;
      wait.tv_nsec = left.count() % 1'000'000'000;
    }
    const bool forever = next == Clock::time_point::max();
    if (::ppoll(polled.data(), polled.size(), forever ? nullptr : &wait,
                nullptr) < 0 &&
        errno != EINTR) {
      return;
    }
    const auto now = Clock::now();
    there.Give(now);
    back.Give(now);
    if (polled[0].revents != 0) there.Take(now);
    if (polled[1].revents != 0) back.Take(now);
  }
}

int Main(int argc, char** argv) {
  Link link;
  std::string a;
  std::string b;
  CLI::App app{"A link with a rate and a delay between two namespaces."};
  app.add_option("a", a, "Network namespace")->required();
  app.add_option("b", b, "The other one")->required();
  app.add_option("--mbit", link.mbit)->check(CLI::PositiveNumber);
  app.add_option("--delay-us", link.delay_us, "Each way");
  app.add_option("--queue-ms", link.queue_ms);
  CLI11_PARSE(app, argc, argv);
  const auto one = OpenTun(a);
  const auto other = one ? OpenTun(b) : std::nullopt;
  if (!other) {
    std::cerr << "delay_link: " << (one ? b : a) << ": " << std::strerror(errno)
              << "\n";
    return 1;
  }
  std::cout << "ready" << std::endl;
  Carry(one->get(), other->get(), link);
  return 1;
}

}  // namespace
}  // namespace bootstream

int main(int argc, char** argv) { return bootstream::Main(argc, argv); }
