#ifndef TESTS_CRASH_STREAM_CLIENT_H_
#define TESTS_CRASH_STREAM_CLIENT_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "tests/crash/recording_device.h"
#include "tests/crash/stream_session.h"
#include "tests/crash/target_model.h"
#include "tests/crash/workload.h"

namespace bootstream {

struct StreamClientOptions {
  uint64_t operations = 120;
  uint64_t parallel = 4;
  // Image chunks that are written, discarded and zeroed; others are only read.
  std::vector<uint64_t> written_chunks;
  // Those that are read before anything else.
  std::vector<uint64_t> read_first = {};
  // The target's tables, at both ends of the image, which are not written.
  uint64_t table_bytes = uint64_t{5} * kBlockBytes;
  bool moves_metadata = false;
  bool gives_up_source = false;    // some time
  bool gives_up_for_room = false;  // when a write has waited for long
  bool backfills = true;
};

// Uses a streamed device as a busy system does: many requests at once, of all
// kinds and sizes, over a disk and a network that answer in any order.  What is
// read is held against a model, which learns all that is written.
class StreamClient {
 public:
  // REQUIRES: `session` is opened over `device`.
  StreamClient(RecordingDevice& device, StreamSession& session,
               TargetModel& model, StreamClientOptions options, uint64_t seed)
      : device_(device),
        session_(session),
        model_(model),
        options_(std::move(options)),
        random_(seed) {}

  // All operations, and then until nothing is under way; what went wrong, or
  // nothing.
  std::string Run();
  // Afterwards: reads and writes that waited for the network (`read-throughs`),
  // and what became of moves of metadata.
  const Tally& tally() const { return tally_; }
  // When the source was begun to be given up, and when that was durable, by the
  // device's clock.
  std::optional<uint64_t> give_up_begun() const { return give_up_begun_; }
  std::optional<uint64_t> given_up() const { return given_up_; }

 private:
  struct Range {
    uint64_t offset = 0;
    uint64_t size = 0;
  };
  void StartAny();
  void StartOn(Range range, Task<void> task);
  bool Turn();  // of disk, network or clock; false: nobody waits for them
  void DrainAll();
  uint64_t Below(uint64_t bound) { return random_() % bound; }
  Range AnyRange(uint64_t chunk);
  Range WholeBlocks(Range range) const;
  bool IsBusy(Range range) const;
  bool IsInBootSet(Range range) const;
  uint64_t AnyWrittenChunk();

  Task<void> Guarded(Range range, Task<void> task);
  Task<void> Read(Range range);
  Task<void> Write(Range range, bool fua);
  Task<void> Zero(Range range, bool fua);
  Task<void> Discard(Range range);
  Task<void> Flush();
  Task<void> Hydrate(uint64_t chunk, FetchClass fetch_class);
  Task<void> Checkpoint();
  Task<void> MoveMetadata(uint64_t which);
  Task<void> RewriteAnchor();
  Task<void> CountBoot();
  void StartGiveUp();
  void GiveUpForRoom();
  Task<void> GiveUpSource();
  void Expect(const Status& status, const char* what);
  void Fail(std::string what) {
    if (wrong_.empty()) wrong_ = std::move(what);
  }

  RecordingDevice& device_;
  StreamSession& session_;
  TargetModel& model_;
  StreamClientOptions options_;
  std::mt19937_64 random_;
  std::set<uint64_t> busy_;  // blocks
  uint64_t under_way_ = 0;
  uint64_t next_move_ = 0;  // of metadata
  std::optional<uint64_t> give_up_begun_;
  std::optional<uint64_t> given_up_;
  std::string wrong_;
  Tally tally_;
};

}  // namespace bootstream

#endif  // TESTS_CRASH_STREAM_CLIENT_H_
