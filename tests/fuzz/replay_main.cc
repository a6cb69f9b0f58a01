// fuzz_replay NAME FILE|FOLDER... [--mutants N]: runs a target over files, for
// compilers without libFuzzer.  With --mutants each file is also tried with N
// random changes, the same ones every time: no search, but the sanitizers look
// on.  fuzz_replay --list prints the names.

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <string>

#include "blockmap/base/file_util.h"
#include "tests/fuzz/fuzz.h"

namespace bootstream {
namespace {

constexpr uint64_t kInputBytesMax = 1 << 20;
using Bytes = std::vector<std::byte>;

// A few bytes changed, cut out, doubled or put in.
Bytes Mutant(const Bytes& input, std::mt19937_64& random) {
  constexpr std::array<uint8_t, 8> kTelling = {0,    1,    0x7f, 0x80,
                                               0xff, 0x20, '\n', '"'};
  Bytes out = input;
  const uint64_t changes = 1 + random() % 4;
  for (uint64_t i = 0; i < changes; ++i) {
    if (out.empty()) out.push_back(std::byte{0});
    const size_t at = random() % out.size();
    const size_t some = 1 + random() % std::min<size_t>(16, out.size() - at);
    const auto here = out.begin() + static_cast<ptrdiff_t>(at);
    switch (random() % 6) {
      case 0:
        out[at] ^= std::byte{1} << (random() % 8);
        break;
      case 1:
        out[at] = std::byte{kTelling[random() % kTelling.size()]};
        break;
      case 2:
        out[at] = static_cast<std::byte>(random());
        break;
      case 3:
        out.erase(here, here + static_cast<ptrdiff_t>(some));
        break;
      case 4: {
        const Bytes part(here, here + static_cast<ptrdiff_t>(some));
        out.insert(here, part.begin(), part.end());
        break;
      }
      default:
        out.resize(at);
    }
  }
  return out;
}

bool RunFile(const FuzzTarget& target, const std::filesystem::path& path,
             uint64_t mutants, uint64_t& runs) {
  const auto input = ReadWholeFile(path.string(), kInputBytesMax);
  if (!input) {
    std::fprintf(stderr, "fuzz_replay: %s\n", input.error().message.c_str());
    return false;
  }
  target.run(*input);
  ++runs;
  std::mt19937_64 random(input->size());
  for (uint64_t i = 0; i < mutants; ++i, ++runs) {
    target.run(Mutant(*input, random));
  }
  return true;
}

bool RunPath(const FuzzTarget& target, const std::filesystem::path& path,
             uint64_t mutants, uint64_t& runs) {
  if (!std::filesystem::is_directory(path)) {
    return RunFile(target, path, mutants, runs);
  }
  for (const auto& entry : std::filesystem::directory_iterator(path)) {
    if (!RunFile(target, entry.path(), mutants, runs)) return false;
  }
  return true;
}

int Main(std::span<char*> arguments) {
  if (arguments.size() == 1 && std::string_view(arguments[0]) == "--list") {
    for (const FuzzTarget* t : FuzzTargets())
      std::printf("%s\n", t->name.data());
    return 0;
  }
  const FuzzTarget* target =
      arguments.empty() ? nullptr : FindFuzzTarget(arguments[0]);
  if (target == nullptr || arguments.size() < 2) {
    std::fprintf(stderr,
                 "usage: fuzz_replay NAME FILE|FOLDER... [--mutants N]\n"
                 "       fuzz_replay --list\n");
    return 2;
  }
  uint64_t mutants = 0;
  std::vector<std::string> paths;
  for (size_t i = 1; i < arguments.size(); ++i) {
    if (std::string_view(arguments[i]) == "--mutants" &&
        i + 1 < arguments.size()) {
      mutants = std::strtoull(arguments[++i], nullptr, 10);
    } else {
      paths.emplace_back(arguments[i]);
    }
  }
  uint64_t runs = 0;
  for (const std::string& path : paths) {
    if (!RunPath(*target, path, mutants, runs)) return 1;
  }
  std::printf("%s: %llu inputs\n", target->name.data(),
              static_cast<unsigned long long>(runs));
  return runs == 0 ? 1 : 0;
}

}  // namespace
}  // namespace bootstream

int main(int argc, char** argv) {
  return bootstream::Main(
      std::span(argv + 1, static_cast<size_t>(argc > 0 ? argc - 1 : 0)));
}
