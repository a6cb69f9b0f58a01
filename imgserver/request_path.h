#ifndef IMGSERVER_REQUEST_PATH_H_
#define IMGSERVER_REQUEST_PATH_H_

#include <string>
#include <string_view>
#include <tl/expected.hpp>

namespace bootstream {

// A request that is not answered with a file: the status, and one sentence.
struct Refusal {
  int status = 0;
  std::string_view reason;  // of static storage
};

// Where a request leads: a public folder of the repository and a path in it.
struct RequestPath {
  std::string folder;         // "images", "packs" or "boot"
  std::string rest;           // "ab/ab12...", no empty, "." or ".." segment
  bool is_immutable = false;  // never changes under this name
  bool is_pack = false;       // `rest` is "xx/DIGEST"
};

// Decode a request target ("/packs/ab/ab12...?x", or with "http://host" before
// it).  Pure: nothing is looked up.  400 for what is not a path, 404 for what
// can never be a public file: other folders, names that begin with a dot, and
// slashes, NULs or control characters that were written as escapes.
[[nodiscard]] tl::expected<RequestPath, Refusal> DecodeRequestPath(
    std::string_view target);

}  // namespace bootstream

#endif  // IMGSERVER_REQUEST_PATH_H_
