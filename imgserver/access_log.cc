#include "imgserver/access_log.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <ctime>

namespace bootstream {
namespace {

constexpr size_t kQueueBytesMax = 4 << 20;

void AppendTime(std::string& out, int64_t time_ms) {
  const std::time_t seconds = time_ms / 1000;
  std::tm t{};
  ::gmtime_r(&seconds, &t);
  std::array<char, 64> text;
  std::snprintf(text.data(), text.size(), "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ",
                t.tm_year + 1900, t.tm_mon + 1, t.tm_mday, t.tm_hour, t.tm_min,
                t.tm_sec, static_cast<int>(time_ms % 1000));
  out += text.data();
}

void AppendWord(std::string& out, std::string_view word) {
  if (word.empty()) out += '-';
  for (const char c : word) {
    if (c > ' ' && c < 0x7f && c != '"' && c != '\\') {
      out += c;
      continue;
    }
    std::array<char, 8> text;
    std::snprintf(text.data(), text.size(), "\\x%02x",
                  static_cast<unsigned char>(c));
    out += text.data();
  }
}

Result<UniqueFd> OpenLog(const std::string& file) {
  if (file.empty()) {
    UniqueFd fd(::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3));
    if (!fd) return ErrnoError(errno, "standard output");
    return fd;
  }
  UniqueFd fd(
      ::open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640));
  if (!fd) return ErrnoError(errno, "access log " + file);
  return fd;
}

}  // namespace

std::string FormatAccessLine(const AccessRecord& record) {
  std::string out;
  out.reserve(192);
  AppendTime(out, record.time_ms);
  out += ' ';
  AppendWord(out, record.client);
  out += ' ';
  AppendWord(out, record.method);
  out += ' ';
  AppendWord(out, record.target);
  out += ' ';
  if (record.range_size > 0) {
    out += std::to_string(record.range_first) + "-" +
           std::to_string(record.range_first + record.range_size - 1);
  } else {
    out += '-';
  }
  std::array<char, 96> text;
  std::snprintf(text.data(), text.size(), " %d %" PRIu64 " %" PRId64 ".%03d ",
                record.status, record.bytes, record.duration_us / 1000,
                static_cast<int>(record.duration_us % 1000));
  out += text.data();
  AppendWord(out, record.end);
  out += '\n';
  return out;
}

Result<std::unique_ptr<AccessLog>> AccessLog::Open(const std::string& file) {
  auto fd = OpenLog(file);
  if (!fd) return fd.error();
  return std::unique_ptr<AccessLog>(new AccessLog(file, *std::move(fd)));
}

AccessLog::AccessLog(std::string file, UniqueFd fd)
    : file_(std::move(file)), fd_(std::move(fd)) {
  writer_ = std::thread([this] { WriteLines(); });
}

AccessLog::~AccessLog() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  wake_.notify_one();
  writer_.join();
}

void AccessLog::Add(const AccessRecord& record) {
  const std::string line = FormatAccessLine(record);
  const std::lock_guard lock(mutex_);
  if (queue_.size() + line.size() > kQueueBytesMax) {
    ++lost_count_;
    return;
  }
  if (queue_.empty()) wake_.notify_one();
  queue_ += line;
}

Status AccessLog::Reopen() {
  if (file_.empty()) return OkStatus();
  auto fd = OpenLog(file_);
  if (!fd) return fd.error();
  const std::lock_guard lock(mutex_);
  next_fd_ = *std::move(fd);
  return OkStatus();
}

void AccessLog::WriteLines() {
  std::string lines;
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return closing_ || !queue_.empty(); });
    if (queue_.empty()) return;
    lines.clear();
    lines.swap(queue_);
    if (lost_count_ > 0) {
      lines += "# " + std::to_string(lost_count_) + " lines lost\n";
      lost_count_ = 0;
    }
    if (next_fd_) fd_ = std::move(next_fd_);
    lock.unlock();
    WriteAll(lines);
    lock.lock();
  }
}

void AccessLog::WriteAll(std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(fd_.get(), text.data(), text.size());
    if (n >= 0) {
      text.remove_prefix(static_cast<size_t>(n));
    } else if (errno == EAGAIN) {
      pollfd wait{fd_.get(), POLLOUT, 0};
      ::poll(&wait, 1, -1);
    } else if (errno != EINTR) {
      // A full disk or a closed pipe: nothing could be told here either.
      const std::lock_guard lock(mutex_);
      lost_count_ += static_cast<uint64_t>(std::ranges::count(text, '\n'));
      return;
    }
  }
}

}  // namespace bootstream
