// fuzz_seeds FOLDER: writes FOLDER/TARGET/seed-NAME for every target.

#include <filesystem>

#include "blockmap/base/file_util.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/seeds/seeds.h"

namespace bootstream {

void Seeds::Put(const std::string& target, const std::string& name,
                std::span<const std::byte> bytes) {
  Require(FindFuzzTarget(target) != nullptr, "the target is there");
  const std::string folder = folder_ + "/" + target;
  std::filesystem::create_directories(folder);
  const auto status = WriteFileDurably(folder + "/seed-" + name, bytes, 0644,
                                       IfExists::kReplace);
  Require(status.has_value(), "the seed can be written");
}

void Seeds::Put(const std::string& target, const std::string& name,
                const std::string& text) {
  Put(target, name, AsBytes(text));
}

}  // namespace bootstream

int main(int argc, char** argv) {
  bootstream::Require(argc == 2, "usage: fuzz_seeds FOLDER");
  bootstream::Seeds seeds(argv[1]);
  bootstream::PutImages(seeds);
  bootstream::PutMap(seeds);
  bootstream::PutTables(seeds);
  bootstream::PutFileSystems(seeds);
  bootstream::PutNbd(seeds);
  bootstream::PutTexts(seeds);
  bootstream::PutHttp(seeds);
  bootstream::PutFirmware(seeds);
  return 0;
}
