#ifndef INITRAMFS_DRIVER_RUN_OPTIONS_H_
#define INITRAMFS_DRIVER_RUN_OPTIONS_H_

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

#include "initramfs/driver/driver.h"

namespace bootstream {

// What `streamd run` is told.
struct RunOptions {
  DriverOptions driver;
  // For tests.
  uint32_t stall_timeout_ms = 15000;
  uint32_t back_off_max_ms = kBackOffMax.count();
  bool scan = false;
  bool takeover = false;
  bool daemonize = false;
  bool keep = false;
  bool lock_memory = false;
  std::string root;
  bool backfill_paused = false;
  uint64_t resume_after_seconds = 0;
  uint64_t start_jitter_seconds = 0;
};

// `options` must outlive the parsing.
void AddRunOptions(CLI::App& run, RunOptions& options);

}  // namespace bootstream

#endif  // INITRAMFS_DRIVER_RUN_OPTIONS_H_
