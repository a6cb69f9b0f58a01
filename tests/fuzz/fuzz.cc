#include "tests/fuzz/fuzz.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

namespace bootstream {
namespace {

std::vector<const FuzzTarget*>& Registry() {
  static std::vector<const FuzzTarget*> targets;
  return targets;
}

}  // namespace

FuzzTarget::FuzzTarget(std::string_view target_name, Run target_run)
    : name(target_name), run(target_run) {
  Registry().push_back(this);
  std::ranges::sort(Registry(), {},
                    [](const FuzzTarget* t) { return t->name; });
}

const std::vector<const FuzzTarget*>& FuzzTargets() { return Registry(); }

const FuzzTarget* FindFuzzTarget(std::string_view name) {
  for (const FuzzTarget* target : Registry()) {
    if (target->name == name) return target;
  }
  return nullptr;
}

void Require(bool holds, std::string_view promise) {
  if (holds) return;
  std::fprintf(stderr, "broken promise: %.*s\n",
               static_cast<int>(promise.size()), promise.data());
  std::abort();
}

std::string_view AsText(std::span<const std::byte> input) {
  return {reinterpret_cast<const char*>(input.data()), input.size()};
}

std::span<const std::byte> AsBytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

}  // namespace bootstream
