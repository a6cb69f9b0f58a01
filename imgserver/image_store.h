#ifndef IMGSERVER_IMAGE_STORE_H_
#define IMGSERVER_IMAGE_STORE_H_

#include <cstdint>
#include <ctime>
#include <string>
#include <tl/expected.hpp>

#include "blockmap/base/result.h"
#include "blockmap/base/unique_fd.h"
#include "imgserver/request_path.h"

namespace bootstream {

// What an answer says about a file besides its bytes.
struct FileFacts {
  uint64_t size = 0;  // bytes
  std::time_t mtime = 0;
  std::string etag;  // with its quotation marks; strong
  bool is_immutable = false;
};

// A public file of the repository, opened for reading.
struct StoredFile {
  UniqueFd fd;
  FileFacts facts;
};

// A repository on the local disk, read-only.  Any number of threads.
class ImageStore {
 public:
  // Open the repository at `directory`.  Its public folders need not exist yet.
  static Result<ImageStore> Open(const std::string& directory);

  // Open the file that `path` names.  Whatever links there are in the way, it
  // lies inside its public folder (openat2, RESOLVE_BENEATH); it is a regular
  // file.  404 if there is none, 403 if it may not be read, 503 if there are
  // too many open files, 500 if the disk failed.
  [[nodiscard]] tl::expected<StoredFile, Refusal> OpenFile(
      const RequestPath& path) const;

 private:
  explicit ImageStore(UniqueFd root) : root_(std::move(root)) {}

  UniqueFd root_;
};

}  // namespace bootstream

#endif  // IMGSERVER_IMAGE_STORE_H_
