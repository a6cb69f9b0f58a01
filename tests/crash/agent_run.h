#ifndef TESTS_CRASH_AGENT_RUN_H_
#define TESTS_CRASH_AGENT_RUN_H_

#include <memory>
#include <string>
#include <vector>

#include "bootagent/image_access.h"
#include "bootagent/job.h"
#include "bootagent/locate.h"
#include "tests/crash/scene.h"
#include "tests/support/fake_chunk_source.h"

namespace bootstream {

// The agent's commands over a device, each as a process of its own runs them.
// `path` is where the source's file system can be read.
class AgentRun {
 public:
  AgentRun(const Scene& scene, std::string path, uint32_t batch_chunks)
      : scene_(scene), path_(std::move(path)), batch_chunks_(batch_chunks) {}

  // Fails if the agent would begin a new migration.
  Status Migrate(BlockDevice& device) const;
  Status Rollback(BlockDevice& device) const;
  Status Return(BlockDevice& device) const;
  // What Release does after the source's file system has given its space: a new
  // map down, by the id that the region file has in `path`.  `first`: the
  // superblock of another time.
  Status LayDown(BlockDevice& device, const Superblock& first) const;
  // A rollback is under way until the source's table stands: as long, what is
  // parked counts as rolling back.
  Result<Superblock> Find(BlockDevice& device) const;

 private:
  const Scene& scene_;
  std::string path_;
  uint32_t batch_chunks_;
};

}  // namespace bootstream

#endif  // TESTS_CRASH_AGENT_RUN_H_
