#ifndef BLOCKMAP_BASE_RESULT_H_
#define BLOCKMAP_BASE_RESULT_H_

#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

namespace bootstream {

// What a caller may do about a failure.  A code exists only where a caller acts
// differently on it; the message says the rest: the thing, the cause and, where
// a person reads it, the next step.
enum class ErrorCode {
  kIo,           // the device or the network failed
  kCorrupt,      // bytes that should have been ours, or signed, are not right
  kNotFound,     // nothing of that name, or no migration on this disk
  kUnsupported,  // a newer format or a thing we do not do
  kInvalid,      // the caller's input cannot be used
  kNoSpace,      // the region cannot hold it
  kRefused,      // it could be done, but not safely
  kUnavailable,  // try again later
};

struct Error {
  ErrorCode code;
  std::string message;  // "journal: record 17: bad checksum"
};

// A T, or the Error that prevented it.  Ignoring one is a compile warning.
template <typename T>
class [[nodiscard]] Result : public tl::expected<T, Error> {
 public:
  using tl::expected<T, Error>::expected;
  Result(Error error)
      : tl::expected<T, Error>(tl::unexpect, std::move(error)) {}
};

using Status = Result<void>;

inline Status OkStatus() { return Status(); }

// `error` with "context: " before its message.
inline Error Annotate(Error error, std::string_view context) {
  error.message = std::string(context) + ": " + error.message;
  return error;
}

// A kIo error for a failed system call: "open /dev/vda: No such file or ...".
Error ErrnoError(int error_number, std::string_view what);

// The exit code of a command that ended with `code`: 1 failed, 3 refused as
// unsafe, 4 try again later.
int ExitCodeFor(ErrorCode code);

}  // namespace bootstream

#endif  // BLOCKMAP_BASE_RESULT_H_
