#ifndef IMGSERVER_REQUEST_H_
#define IMGSERVER_REQUEST_H_

#include <cstddef>
#include <optional>
#include <string_view>
#include <tl/expected.hpp>

#include "imgserver/request_path.h"

namespace bootstream {

// The header of one request, taken apart.  Views point into the text that was
// parsed; an absent field is empty.
struct Request {
  std::string_view method;
  std::string_view target;
  bool is_http_1_0 = false;
  bool keep_alive = false;  // the client wishes it, or does not mind
  bool has_body = false;    // one follows, which nobody reads
  std::string_view range;
  std::string_view if_range;
  std::string_view if_match;
  std::string_view if_none_match;
  std::string_view if_modified_since;
  std::string_view if_unmodified_since;
};

// Bytes up to and with the empty line that ends a header, or nothing if it has
// not arrived yet.  `checked` bytes are known to hold no end; it is advanced.
std::optional<size_t> FindHeaderEnd(std::string_view text, size_t& checked);

// Take a whole header apart.  `text` ends with the empty line.  Strict where
// leniency has been used to smuggle requests: folded lines, two Hosts, and
// fields that come twice are refused.  Methods are not judged here.
[[nodiscard]] tl::expected<Request, Refusal> ParseRequest(
    std::string_view text);

}  // namespace bootstream

#endif  // IMGSERVER_REQUEST_H_
