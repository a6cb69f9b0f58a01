#include "tests/crash/resume_workload.h"

#include <random>
#include <utility>

#include "tests/crash/crash_states.h"

namespace bootstream {
namespace {

// One that is torn, most often, if there is any: recovery has most to do then.
CrashState AnyState(const CrashStates& states, std::mt19937_64& random) {
  CrashState state = states.Make(random() % 64);
  for (int i = 0; i < 8 && !state.torn; ++i) {
    state = states.Make(random() % 64);
  }
  return state;
}

}  // namespace

ResumeWorkload::ResumeWorkload(std::unique_ptr<Workload> first, uint64_t seed)
    : first_(std::move(first)) {
  ScratchDisk disk(first_->Base());
  RecordingDevice device({disk.bytes().begin(), disk.bytes().end()});
  wrong_ = first_->Run(device);
  const Recording recording = device.TakeRecording();
  const auto points = CrashPointsOf(recording);
  std::mt19937_64 random(seed);
  const CrashPoint& point = points[random() % points.size()];
  for (uint64_t i = 0; i < point.durable; ++i) {
    disk.Put(recording.writes[i].offset, recording.writes[i].data);
  }
  const CrashState state =
      AnyState(CrashStates(point, disk.bytes(), seed), random);
  for (const auto& piece : state.pieces) disk.Put(piece.offset, piece.data);
  base_.assign(disk.bytes().begin(), disk.bytes().end());
  first_cut_ = {point.clock, state.torn, random()};
}

std::string ResumeWorkload::Run(RecordingDevice& device) {
  if (!wrong_.empty()) return wrong_;
  return first_->Recover(device, first_cut_);
}

Tally ResumeWorkload::TallyOf(std::span<const std::byte> base,
                              const Recording& recording) const {
  return first_->TallyOf(base, recording);
}

Cut ResumeWorkload::Inner(const Cut& cut) const {
  // Recovery copies what was torn.
  return {first_cut_.clock, first_cut_.torn, cut.choice};
}

std::string ResumeWorkload::Recover(BlockDevice& device, const Cut& cut) {
  return first_->Recover(device, Inner(cut));
}

std::string ResumeWorkload::Check(ScratchDisk& disk, const Cut& cut) {
  return first_->Check(disk, Inner(cut));
}

}  // namespace bootstream
