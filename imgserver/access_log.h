#ifndef IMGSERVER_ACCESS_LOG_H_
#define IMGSERVER_ACCESS_LOG_H_

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

#include "blockmap/base/result.h"
#include "blockmap/base/unique_fd.h"

namespace bootstream {

// One request, as the access log tells it.  imgserver/protocol.md has the
// format.
struct AccessRecord {
  int64_t time_ms = 0;  // since 1970
  std::string_view client;
  std::string_view method;  // empty if never read, like `target`
  std::string_view target;
  uint64_t range_first = 0;
  uint64_t range_size = 0;  // 0: no range was answered
  int status = 0;
  uint64_t bytes = 0;
  int64_t duration_us = 0;
  std::string_view end;
};

// The line for `record`, with its newline.  Pure; bytes that are not printable
// ASCII, spaces, quotes and backslashes in a target become \xNN.
std::string FormatAccessLine(const AccessRecord& record);

// Writes the access log without ever making a request wait: lines are queued,
// and a thread of its own writes them.  If the queue is full, lines are dropped
// and a comment line says how many.  Any number of threads.
class AccessLog {
 public:
  // Append to `file`, or write to standard output if it is empty.
  static Result<std::unique_ptr<AccessLog>> Open(const std::string& file);
  // Waits until what is queued is written.
  ~AccessLog();
  AccessLog(const AccessLog&) = delete;
  AccessLog& operator=(const AccessLog&) = delete;

  void Add(const AccessRecord& record);

  // Open the file anew, after it was renamed by who rotates logs.  On failure
  // the old one stays in use.
  Status Reopen();

 private:
  AccessLog(std::string file, UniqueFd fd);
  void WriteLines();
  void WriteAll(std::string_view text);

  const std::string file_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::string queue_;  // guarded by mutex_, as the next three are
  uint64_t lost_count_ = 0;
  bool closing_ = false;
  UniqueFd next_fd_;  // takes the place of fd_ before the next write
  UniqueFd fd_;       // the writer's own
  std::thread writer_;
};

}  // namespace bootstream

#endif  // IMGSERVER_ACCESS_LOG_H_
