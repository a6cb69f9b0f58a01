#ifndef TESTS_FUZZ_FUZZ_H_
#define TESTS_FUZZ_FUZZ_H_

#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

// What every fuzz target is made of.  One program holds them all: fuzz_main.cc
// lets libFuzzer drive the one that --target=NAME names, replay_main.cc feeds
// it files.  One thread.

namespace bootstream {

// A parser and what must hold of what it says, whatever `input` is.  A broken
// promise aborts (Require), as does what the sanitizers find.
struct FuzzTarget {
  using Run = void (*)(std::span<const std::byte> input);
  FuzzTarget(std::string_view target_name, Run target_run);
  std::string_view name;
  Run run;
};
// By name.
const std::vector<const FuzzTarget*>& FuzzTargets();
// nullptr: there is none of that name.
const FuzzTarget* FindFuzzTarget(std::string_view name);

// FUZZ_TARGET(name) { ...  input ... }
#define FUZZ_TARGET(name)                                             \
  static void FuzzOne_##name(std::span<const std::byte> input);       \
  static const FuzzTarget fuzz_target_##name(#name, &FuzzOne_##name); \
  static void FuzzOne_##name(std::span<const std::byte> input)

// Abort, with a word on what was promised, unless `holds`.
void Require(bool holds, std::string_view promise);

// `input` as text, and text as bytes.
std::string_view AsText(std::span<const std::byte> input);
std::span<const std::byte> AsBytes(std::string_view text);

}  // namespace bootstream

#endif  // TESTS_FUZZ_FUZZ_H_
