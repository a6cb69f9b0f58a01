#ifndef TESTS_FUZZ_HTTP_FAR_END_H_
#define TESTS_FUZZ_HTTP_FAR_END_H_

#include <curl/curl.h>

#include <string_view>
#include <vector>

#include "blockmap/base/unique_fd.h"

namespace bootstream {

// What answers curl, whatever the URL says: each new connection gets the next
// part of `input`, up to a NUL.  One thread.
class HttpFarEnd {
 public:
  // So much a socket takes without anybody reading it.
  static constexpr size_t kInputBytesMax = 64 << 10;

  explicit HttpFarEnd(std::string_view input) : left_(input) {}
  // `easy` comes here from now on; it must not outlive this.
  void Attach(CURL* easy);

 private:
  static int Answer(void* user, char*, char*, int, int);

  std::string_view left_;
  std::vector<UniqueFd> ends_;
};

}  // namespace bootstream

#endif  // TESTS_FUZZ_HTTP_FAR_END_H_
