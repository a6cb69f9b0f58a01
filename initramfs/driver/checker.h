#ifndef INITRAMFS_DRIVER_CHECKER_H_
#define INITRAMFS_DRIVER_CHECKER_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "blockmap/base/executor.h"
#include "blockmap/base/task.h"
#include "initramfs/driver/engine.h"

namespace bootstream {

// Goes over what is on the disk, behind the user's back, and compares what is
// clean with the manifest; what is wrong is fetched again.  Waits for the
// server where it must.  One thread, the executor's.
class Checker {
 public:
  enum class Scope : uint8_t { kAll, kBoot };  // the boot set

  // Both must outlive the Checker, which must outlive the executor's last turn.
  Checker(Executor& executor, StreamEngine& engine)
      : executor_(executor), engine_(engine) {}

  // Begin.  kUnavailable: one is under way already.
  Status Start(Scope scope);
  // Take up no new chunk; for the end of the program.
  void Stop() { stopped_ = true; }
  // The "check" object of control.md.
  nlohmann::json Report() const;

 private:
  Task<void> Run(std::vector<ImageChunk> chunks);
  std::vector<ImageChunk> ChunksOf(Scope scope) const;
  void Count(ImageChunk chunk, const Result<StreamEngine::CheckResult>& result);

  Executor& executor_;
  StreamEngine& engine_;
  bool running_ = false;
  bool stopped_ = false;
  bool ever_ = false;
  Scope scope_ = Scope::kAll;
  uint64_t total_ = 0;
  uint64_t done_ = 0;
  uint64_t good_ = 0;
  uint64_t not_clean_ = 0;
  uint64_t touched_ = 0;
  uint64_t mended_ = 0;
  uint64_t failed_ = 0;
  uint64_t not_home_ = 0;
  std::string failure_;  // the last
};

}  // namespace bootstream

#endif  // INITRAMFS_DRIVER_CHECKER_H_
