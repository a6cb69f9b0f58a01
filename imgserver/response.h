#ifndef IMGSERVER_RESPONSE_H_
#define IMGSERVER_RESPONSE_H_

#include <cstdint>
#include <ctime>
#include <string>

#include "imgserver/byte_range.h"
#include "imgserver/image_store.h"
#include "imgserver/request.h"

namespace bootstream {

// An answer, before a byte of it is sent: a header, then a part of the file.
struct Response {
  int status = 0;
  std::string head;  // header, and the text of a refusal
  RangeAnswer part;  // what 206 names
  uint64_t body_offset = 0;
  uint64_t body_size = 0;  // bytes of the file; 0 for HEAD, 304 and refusals
  bool keep_alive = false;
};

// What every answer needs to know besides the request.
struct ResponseContext {
  std::time_t now = 0;
  bool keep_alive = false;  // whether the server lets the connection live
};

// The answer to a GET or HEAD of a file: preconditions, then the range, as
// RFC 9110 section 13.2.2 orders them.  Pure.
Response AnswerWithFile(const Request& request, const FileFacts& facts,
                        const ResponseContext& context);

// The answer that says no, with one sentence.  `request` may be null when none
// could be read.
Response AnswerWithRefusal(const Request* request, const Refusal& refusal,
                           const ResponseContext& context);

}  // namespace bootstream

#endif  // IMGSERVER_RESPONSE_H_
