#ifndef INITRAMFS_DRIVER_STATUS_FILE_H_
#define INITRAMFS_DRIVER_STATUS_FILE_H_

#include <string>

#include "blockmap/base/result.h"
#include "blockmap/base/unique_fd.h"

namespace bootstream {

// A file that is replaced whole, mode 0644.  It holds its directory open, so
// that it goes on working when the root file system has changed under us.
class StatusFile {
 public:
  // Makes the directory of `path` if it is missing.
  static Result<StatusFile> Open(const std::string& path);
  // The same in the directory that is open already.
  static StatusFile In(UniqueFd directory, const std::string& path);
  int directory() const { return directory_.get(); }
  // Does nothing if `text` is what was written last.
  Status Replace(const std::string& text);

 private:
  StatusFile(UniqueFd directory, std::string name)
      : directory_(std::move(directory)), name_(std::move(name)) {}
  UniqueFd directory_;
  std::string name_;
  std::string last_;
};

}  // namespace bootstream

#endif  // INITRAMFS_DRIVER_STATUS_FILE_H_
