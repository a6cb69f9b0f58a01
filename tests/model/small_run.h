#ifndef TESTS_MODEL_SMALL_RUN_H_
#define TESTS_MODEL_SMALL_RUN_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <unordered_set>
#include <vector>

#include "initramfs/driver/engine.h"
#include "tests/model/model_disk.h"
#include "tests/model/reference.h"
#include "tests/model/small_world.h"
#include "tests/support/fake_chunk_source.h"
#include "tests/support/test_executor.h"

namespace bootstream {

// Scripts that run at once; the operations of one come one after the other.
using Scripts = std::vector<std::vector<const Operation*>>;

// Disks after a power cut that have been looked at already: the answer depends
// on the disk and on what the reference allows, and on nothing else.
struct CutsSeen {
  std::unordered_set<uint64_t> keys;
  uint64_t tried = 0;
};

// One run of the scripts over the real engine and the real map, in which every
// step is chosen from outside.
class SmallRun {
 public:
  SmallRun(SmallWorld& world, const SmallWorld::Start& start,
           const Scripts& scripts, CutsSeen& cuts);
  ~SmallRun();
  SmallRun(const SmallRun&) = delete;
  SmallRun& operator=(const SmallRun&) = delete;

  // What may happen next: a request to the disk completes (oldest first), a
  // chunk arrives, a script goes on, time passes.
  size_t choice_count() const;
  std::string Describe(size_t choice) const;
  void Take(size_t choice);
  // Every script is at its end and nothing is under way.
  bool is_done() const;
  // The power fails now, in every way worth trying, and comes back.
  void TryCuts();
  // After the last choice: read all, flush, lose what was not flushed, read
  // all.  Where nothing could be chosen and not all was done: a deadlock.
  void Finish();
  // The first thing that was wrong; empty: nothing.
  const std::string& violation() const { return violation_; }

 private:
  struct Script {
    std::vector<const Operation*> operations;
    size_t next = 0;
    bool running = false;
  };

  Task<void> RunOperation(Script& script, const Operation& op, int number);
  Task<Status> Do(const Operation& op, int number);
  Task<Status> DoRead(const Operation& op, int number);
  Task<Status> DoChange(const Operation& op, int number);
  Task<Status> DoMove(DiskChunk chunk);
  Task<Status> DoRelocate();
  Task<Status> DoRestore();
  bool MayFail(const Operation& op, const Error& error) const;

  std::vector<size_t> StartableScripts() const;
  bool MayFireTimer() const;
  void TryCut(const std::vector<ModelDisk::Fate>& fates,
              std::mt19937_64& random);
  std::string CheckRecovered(const DiskImage& image) const;
  std::string ReadAll(ModelDisk& disk, MapStore& store,
                      std::span<std::byte> out) const;
  void Complain(std::string why);

  SmallWorld& world_;
  const SmallWorld::Start& start_;
  CutsSeen& cuts_;
  uint64_t start_key_ = 0;
  Reference reference_;
  std::vector<Script> scripts_;
  int timers_fired_ = 0;
  bool relocating_ = false;  // the mover's caller keeps others away
  std::string violation_;

  std::unique_ptr<TestExecutor> executor_;
  std::unique_ptr<ModelDisk> disk_;
  std::unique_ptr<FakeChunkSource> source_;
  std::unique_ptr<MapStore> store_;
  std::unique_ptr<StreamEngine> engine_;
};

}  // namespace bootstream

#endif  // TESTS_MODEL_SMALL_RUN_H_
