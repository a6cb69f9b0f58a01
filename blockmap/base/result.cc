#include "blockmap/base/result.h"

#include <cstring>

namespace bootstream {

Error ErrnoError(int error_number, std::string_view what) {
  return Error{ErrorCode::kIo,
               std::string(what) + ": " + std::strerror(error_number)};
}

int ExitCodeFor(ErrorCode code) {
  switch (code) {
    case ErrorCode::kRefused:
    case ErrorCode::kNoSpace:
      return 3;
    case ErrorCode::kUnavailable:
      return 4;
    default:
      return 1;
  }
}

}  // namespace bootstream
