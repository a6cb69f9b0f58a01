#ifndef IMGSERVER_IMAGE_BUILDER_H_
#define IMGSERVER_IMAGE_BUILDER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "blockmap/base/progress.h"
#include "blockmap/base/result.h"
#include "blockmap/image/pack.h"

namespace bootstream {

struct BuildOptions {
  std::string disk;
  std::string name;
  std::string version;
  std::string repository;
  std::string key_file;    // private
  std::string trace_file;  // empty: the boot was not watched
  // What machines have read (streamctl trace).
  std::vector<std::string> machine_trace_files;
  std::string kernel_command_line;
  std::vector<std::string> base_urls;
  std::optional<uint32_t> boot_partition;
  bool grow = false;  // to the whole disk, once the driver has left
  uint32_t chunk_bytes = kChunkBytesDefault;
  int level = 3;
  unsigned thread_count = 0;  // 0: one for each processor
  uint64_t pack_bytes_max = kPackBytesMax;
};

struct BuildReport {
  Sha256 manifest_digest{};
  uint64_t image_bytes = 0;
  uint64_t data_chunk_count = 0;
  uint64_t data_bytes = 0;
  uint64_t packed_bytes = 0;      // of all data chunks
  uint64_t new_packed_bytes = 0;  // written into new packs
  uint64_t new_pack_count = 0;
  uint64_t boot_chunk_count = 0;
  uint64_t boot_packed_bytes = 0;
  uint64_t prefetch_chunk_count = 0;
  bool already_published = false;  // exactly this was there before
  bool is_latest = false;
  std::vector<std::string> warnings;
};

// Make an image of a disk and publish it in the repository: new packs, then the
// manifest, then `latest` (which only moves forward).  Stopped at any point it
// leaves a repository that is whole.  The same disk, trace, key and repository
// content give the same bytes.
//
// kRefused: the disk cannot be an image (image_layout.h), the trace has no
// take-over, or NAME:VERSION is published with other content.
Result<BuildReport> BuildImage(const BuildOptions& options, Progress& progress);

}  // namespace bootstream

#endif  // IMGSERVER_IMAGE_BUILDER_H_
