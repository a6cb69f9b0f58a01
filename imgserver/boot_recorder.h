#ifndef IMGSERVER_BOOT_RECORDER_H_
#define IMGSERVER_BOOT_RECORDER_H_

#include <chrono>
#include <string>

#include "blockmap/base/progress.h"
#include "blockmap/base/result.h"
#include "imgserver/boot_trace.h"
#include "imgserver/qemu_process.h"

namespace bootstream {

struct RecordOptions {
  std::string disk;
  Firmware firmware = Firmware::kUefi;
  std::string until = "login:";  // POSIX extended regular expression
  std::chrono::seconds timeout{900};
  uint32_t memory_mib = 2048;
  std::string accel = "tcg,thread=multi";
  std::string console_file;  // what the console says goes here too, if set
};

// Boot the disk in QEMU, with its disk served by our NBD server over a copy in
// memory of what is written, until the serial console shows `until`; what was
// read.  The disk is not changed.
//
// kUnavailable: it did not come so far in time, or the machine went off;
// kRefused: it did, but the streaming driver never took over.
Result<BootTrace> RecordBoot(const RecordOptions& options, Progress& progress);

}  // namespace bootstream

#endif  // IMGSERVER_BOOT_RECORDER_H_
