#ifndef TESTS_CRASH_AGENT_SCENE_H_
#define TESTS_CRASH_AGENT_SCENE_H_

#include <memory>
#include <string>

#include "blockmap/base/unique_fd.h"
#include "tests/crash/scene.h"
#include "tests/crash/target_model.h"

namespace bootstream {

// A real small disk, released by the real agent: GPT, ESP and an ext4 with
// files, and an image with tables, pinned ESP and /boot, and a root.
//
// THE SEAM.  Release goes through the kernel's ext4 (mount, fallocate, fsync,
// unmount), whose writes are not ours to reorder.  So the simulation begins
// where that file has its place; what Release writes to it afterwards (phase
// `laydown`) is simulated like all the rest.  Before, nothing of ours is on the
// disk but a file of the source's own: generated disks and the agent's stop
// points stand for that.  The agent reads
// the source's file system by a path (libext2fs); here that is `path`, the disk
// as it was released, sealed against writing, or `path_anew`, where the region
// file is tagged for another map in the same place.
struct AgentScene {
  Scene scene;
  Superblock first;  // of phase released
  UniqueFd sealed;
  std::string path;
  UniqueFd sealed_anew;
  std::string path_anew;
  static constexpr uint64_t kTableBytes = uint64_t{5} * kBlockBytes;
};

// Made once for a process, in a temporary directory on tmpfs; needs root and
// loop devices.  Aborts with a message where that fails.
std::shared_ptr<const AgentScene> ReleasedScene();
bool CanMakeAgentScenes();

// The same disk further on its way: armed, and streamed from by a busy target
// for `operations` requests; `model` learns what it has written.
Scene ArmedScene(const AgentScene& released);
struct LivedScene {
  Scene scene;
  std::vector<std::byte> content;  // of the target
};
LivedScene StreamedScene(const Scene& armed, uint64_t operations,
                         uint64_t seed);
// And back again: the target is parked.
void ParkScene(const AgentScene& released, Scene& scene);
// `commits` that change nothing in the end, each of a block of the journal: so
// that the switch to a fresh one falls elsewhere in what follows.
void UseUpJournal(const AgentScene& released, uint64_t commits, Scene& scene);

}  // namespace bootstream

#endif  // TESTS_CRASH_AGENT_SCENE_H_
