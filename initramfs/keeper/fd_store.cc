#include "initramfs/keeper/fd_store.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "blockmap/base/file_util.h"

namespace bootstream {
namespace {

constexpr size_t kNameBytesMax = 31;
constexpr uint64_t kBytesMax = 1 << 20;

struct WireHeader {
  KeeperWord word;
  int32_t number;
};

union ControlBuffer {
  cmsghdr header;
  std::array<char, CMSG_SPACE(sizeof(int))> bytes;
};

std::string_view AsText(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

UniqueFd FdStore::Take(std::string_view name) {
  auto node = inherited_.extract(std::string(name));
  return node ? std::move(node.mapped()) : UniqueFd();
}

Status FdStore::Keep(std::string_view name, int fd) {
  const std::string full = prefix_ + std::string(name);
  assert(!name.empty() && full.size() <= kNameBytesMax && fd >= 0);
  if (!has_keeper()) return OkStatus();
  auto sent = SendToKeeper(channel_.get(), KeeperWord::kKeep, full, 0, fd);
  if (!sent) return Annotate(sent.error(), "keep " + full);
  return sent;
}

Result<FdStore> FdStore::Branch(const std::string& prefix) {
  FdStore branch;
  branch.restarts_ = restarts_;
  branch.prefix_ = prefix_ + prefix;
  auto at = inherited_.lower_bound(prefix);
  while (at != inherited_.end() && at->first.starts_with(prefix)) {
    branch.inherited_[at->first.substr(prefix.size())] = std::move(at->second);
    at = inherited_.erase(at);
  }
  if (!has_keeper()) return branch;
  branch.channel_.reset(::fcntl(channel_.get(), F_DUPFD_CLOEXEC, 0));
  if (!branch.channel_) return ErrnoError(errno, "the keeper");
  return branch;
}

Status FdStore::ForgetAll() {
  assert(!prefix_.empty());
  inherited_.clear();
  if (!has_keeper()) return OkStatus();
  return SendToKeeper(channel_.get(), KeeperWord::kForget, prefix_, 0, -1);
}

std::optional<std::vector<std::byte>> FdStore::TakeBytes(
    std::string_view name) {
  const UniqueFd fd = Take(name);
  if (!fd) return std::nullopt;
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0 || info.st_size < 0 ||
      static_cast<uint64_t>(info.st_size) > kBytesMax) {
    return std::nullopt;
  }
  std::vector<std::byte> bytes(static_cast<size_t>(info.st_size));
  const ssize_t n = ::pread(fd.get(), bytes.data(), bytes.size(), 0);
  if (n != info.st_size) return std::nullopt;
  return bytes;
}

Status FdStore::KeepBytes(std::string_view name,
                          std::span<const std::byte> bytes) {
  if (!has_keeper()) return OkStatus();
  const UniqueFd fd(::memfd_create("bootstream", MFD_CLOEXEC));
  if (!fd) return ErrnoError(errno, "memfd_create");
  if (auto s = WriteAll(fd.get(), bytes); !s) return s;
  return Keep(name, fd.get());
}

std::optional<std::string> FdStore::TakeText(std::string_view name) {
  const auto bytes = TakeBytes(name);
  if (!bytes) return std::nullopt;
  return std::string(AsText(*bytes));
}

Status FdStore::KeepText(std::string_view name, std::string_view text) {
  return KeepBytes(name, std::as_bytes(std::span(text.data(), text.size())));
}

std::optional<uint32_t> FdStore::TakeNumber(std::string_view name) {
  const auto text = TakeText(name);
  uint32_t number = 0;
  if (!text ||
      std::from_chars(text->data(), text->data() + text->size(), number).ec !=
          std::errc()) {
    return std::nullopt;
  }
  return number;
}

Status FdStore::KeepNumber(std::string_view name, uint32_t number) {
  return KeepText(name, std::to_string(number));
}

void FdStore::Say(KeeperWord word, std::string_view text, int number) {
  if (!has_keeper()) return;
  (void)SendToKeeper(channel_.get(), word, text.substr(0, kKeeperTextMax),
                     number, -1);
}

Status SendToKeeper(int channel, KeeperWord word, std::string_view text,
                    int number, int fd) {
  WireHeader header{word, number};
  std::array<iovec, 2> parts = {
      {{&header, sizeof header},
       {const_cast<char*>(text.data()), text.size()}}};
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = parts.size();
  ControlBuffer control{};
  if (fd >= 0) {
    message.msg_control = control.bytes.data();
    message.msg_controllen = control.bytes.size();
    cmsghdr* item = CMSG_FIRSTHDR(&message);
    item->cmsg_level = SOL_SOCKET;
    item->cmsg_type = SCM_RIGHTS;
    item->cmsg_len = CMSG_LEN(sizeof fd);
    std::memcpy(CMSG_DATA(item), &fd, sizeof fd);
  }
  while (::sendmsg(channel, &message, MSG_NOSIGNAL) < 0) {
    if (errno != EINTR) return ErrnoError(errno, "the keeper");
  }
  return OkStatus();
}

std::optional<KeeperMessage> ReceiveFromWorker(int channel) {
  WireHeader header{};
  std::array<char, kKeeperTextMax> text;
  std::array<iovec, 2> parts = {
      {{&header, sizeof header}, {text.data(), text.size()}}};
  ControlBuffer control{};
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = parts.size();
  message.msg_control = control.bytes.data();
  message.msg_controllen = control.bytes.size();
  ssize_t n = -1;
  do {
    n = ::recvmsg(channel, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (n < 0 && errno == EINTR);
  if (n < static_cast<ssize_t>(sizeof header)) return std::nullopt;
  KeeperMessage result;
  result.word = header.word;
  result.number = header.number;
  result.text.assign(text.data(), static_cast<size_t>(n) - sizeof header);
  const cmsghdr* item = CMSG_FIRSTHDR(&message);
  if (item != nullptr && item->cmsg_type == SCM_RIGHTS) {
    int fd = -1;
    std::memcpy(&fd, CMSG_DATA(item), sizeof fd);
    result.fd.reset(fd);
  }
  return result;
}

}  // namespace bootstream
