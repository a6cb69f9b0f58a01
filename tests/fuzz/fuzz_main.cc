// fuzz --target=NAME [libFuzzer's options] CORPUS...
// libFuzzer leaves options that begin with two dashes to us.

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "tests/fuzz/fuzz.h"

namespace {

const bootstream::FuzzTarget* chosen = nullptr;

}  // namespace

// Freed memory is kept aside, to be watched; many inputs make much of it.  It
// is not given back to the kernel for every input, nor is each call remembered
// from its root on: a replay tells more.
// NOLINTNEXTLINE(bugprone-reserved-identifier): the sanitizer's name
extern "C" const char* __asan_default_options() {
  return "quarantine_size_mb=16:malloc_context_size=3:"
         "allocator_release_to_os_interval_ms=-1";
}

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  constexpr std::string_view kOption = "--target=";
  for (int i = 1; i < *argc; ++i) {
    const std::string_view argument = (*argv)[i];
    if (!argument.starts_with(kOption)) continue;
    chosen = bootstream::FindFuzzTarget(argument.substr(kOption.size()));
  }
  if (chosen != nullptr) return 0;
  std::fprintf(stderr, "fuzz: say --target=NAME; there are:\n");
  for (const auto* target : bootstream::FuzzTargets()) {
    std::printf("%s\n", target->name.data());
  }
  std::exit(2);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  chosen->run(std::as_bytes(std::span(data, size)));
  return 0;
}
