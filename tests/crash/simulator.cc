#include "tests/crash/simulator.h"

#include <algorithm>
#include <chrono>
#include <cstdio>

#include "blockmap/base/types.h"

namespace bootstream {
namespace {

uint64_t HashOf(std::span<const std::byte> disk) {
  uint64_t hash = 0;
  for (uint64_t at = 0; at < disk.size(); at += kSectorBytes) {
    hash ^= SectorHash(
        at / kSectorBytes,
        disk.subspan(at, std::min<uint64_t>(kSectorBytes, disk.size() - at)));
  }
  return hash;
}

std::vector<uint64_t> TouchedSectors(const CrashPoint& point) {
  std::vector<uint64_t> sectors;
  for (const auto* write : point.window) {
    for (uint64_t at = 0; at < write->data.size(); at += kSectorBytes) {
      sectors.push_back((write->offset + at) / kSectorBytes);
    }
  }
  std::ranges::sort(sectors);
  sectors.erase(std::unique(sectors.begin(), sectors.end()), sectors.end());
  return sectors;
}

uint64_t HashOfSectors(std::span<const std::byte> disk,
                       const std::vector<uint64_t>& sectors) {
  uint64_t hash = 0;
  for (const uint64_t sector : sectors) {
    hash ^=
        SectorHash(sector, disk.subspan(sector * kSectorBytes, kSectorBytes));
  }
  return hash;
}

double Now() {
  return std::chrono::duration<double>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace

uint64_t MixSeed(uint64_t seed, uint64_t number) {
  uint64_t mixed = seed + (number + 1) * 0x9e3779b97f4a7c15;
  mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9;
  mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111eb;
  return mixed ^ (mixed >> 31);
}

Simulator::PhaseState& Simulator::StateOf(const PhaseOfLife& life) {
  for (PhaseState& phase : phases_) {
    if (phase.life.name == life.name) return phase;
  }
  phases_.push_back({life});
  return phases_.back();
}

void Simulator::RunRound(const PhaseOfLife& life, uint64_t round,
                         const std::optional<Only>& only) {
  PhaseState& phase = StateOf(life);
  const double start = Now();
  const auto workload = life.make(MixSeed(options_.seed, round));
  ScratchDisk disk(workload->Base(), workload->Origin());
  RecordingDevice device({disk.bytes().begin(), disk.bytes().end()});
  const std::string wrong = workload->Run(device);
  const Recording recording = device.TakeRecording();
  if (!wrong.empty()) Report(phase, {round, 0, 0}, "no power cut: " + wrong);
  ++phase.figures.rounds;
  for (const auto& [what, times] : workload->TallyOf(disk.bytes(), recording)) {
    phase.figures.tally[what] += times;
  }

  uint64_t hash = HashOf(disk.bytes());
  uint64_t durable = 0;
  const auto points = CrashPointsOf(recording);
  for (size_t i = 0; i < points.size(); ++i) {
    const CrashPoint& point = points[i];
    for (; durable < point.durable; ++durable) {
      const auto& write = recording.writes[durable];
      const uint64_t first = write.offset / kSectorBytes;
      for (uint64_t at = 0; at < write.data.size(); at += kSectorBytes) {
        const uint64_t sector = first + at / kSectorBytes;
        hash ^=
            SectorHash(sector,
                       disk.bytes().subspan(write.offset + at, kSectorBytes)) ^
            SectorHash(sector, std::span(write.data).subspan(at, kSectorBytes));
      }
      disk.Put(write.offset, write.data);
    }
    disk.Keep();
    if (only && only->point != i) continue;
    TryPoint({phase, *workload, disk, round, only}, i, point, hash);
  }
  phase.figures.seconds += Now() - start;
}

void Simulator::TryPoint(const Round& round, uint64_t index,
                         const CrashPoint& point, uint64_t disk_hash) {
  ScratchDisk& disk = round.disk;
  const uint64_t seed = MixSeed(options_.seed, round.number);
  const CrashStates states(point, disk.bytes(), seed);
  const auto sectors = TouchedSectors(point);
  disk_hash ^= HashOfSectors(disk.bytes(), sectors);
  const uint64_t wanted = options_.states_per_point;
  const uint64_t first = round.only ? round.only->number : 0;
  const uint64_t end = round.only ? first + 1 : states.NumbersFor(wanted);
  std::unordered_set<uint64_t> here;
  for (uint64_t i = first; i < end && here.size() < wanted; ++i) {
    const CrashState state = states.Make(i);
    for (const auto& piece : state.pieces) disk.Put(piece.offset, piece.data);
    const uint64_t hash = disk_hash ^ HashOfSectors(disk.bytes(), sectors);
    if (here.insert(hash).second) {
      round.phase.seen.insert(hash);
      seen_.insert(hash);
      TryState(round, {point.clock, state.torn, MixSeed(seed ^ point.clock, i)},
               {round.number, index, i});
    }
    disk.Reset();
  }
  Figures& figures = round.phase.figures;
  figures.distinct = round.phase.seen.size();
  ++figures.points;
  const bool whole = here.size() == states.disk_count();
  ++(whole                   ? figures.whole
     : here.size() >= wanted ? figures.enough
                             : figures.fewer);
}

void Simulator::TryState(const Round& round, const Cut& cut,
                         const Only& where) {
  ++round.phase.figures.tried;
  const std::string wrong = round.workload.Check(round.disk, cut);
  if (!wrong.empty()) {
    Report(round.phase, where, wrong);
  } else if (round.only) {
    std::printf("%s: nothing is wrong here\n", round.phase.life.name.c_str());
  }
}

void Simulator::Report(PhaseState& phase, const Only& where,
                       const std::string& what) {
  if (++phase.figures.violations > options_.violations_shown) return;
  std::printf(
      "VIOLATION %s: %s\n  again: crash_simulator --seed %llu --only "
      "%s:%llu:%llu:%llu\n",
      phase.life.name.c_str(), what.c_str(),
      static_cast<unsigned long long>(options_.seed), phase.life.name.c_str(),
      static_cast<unsigned long long>(where.round),
      static_cast<unsigned long long>(where.point),
      static_cast<unsigned long long>(where.number));
  std::fflush(stdout);
}

void Simulator::JudgePhases() {
  for (PhaseState& phase : phases_) {
    if (phase.figures.rounds < phase.life.judged_after) continue;
    for (const std::string& what : phase.life.must_do) {
      if (phase.figures.tally[what] != 0) continue;
      if (++phase.figures.violations > options_.violations_shown) continue;
      std::printf("VIOLATION %s: in the whole run no %s\n",
                  phase.life.name.c_str(), what.c_str());
    }
  }
}

std::vector<Simulator::PhaseFigures> Simulator::phases() const {
  std::vector<PhaseFigures> all;
  for (const PhaseState& phase : phases_) {
    all.push_back({phase.life.name, phase.figures});
  }
  return all;
}

uint64_t Simulator::violations() const {
  uint64_t sum = 0;
  for (const PhaseState& phase : phases_) sum += phase.figures.violations;
  return sum;
}

}  // namespace bootstream
