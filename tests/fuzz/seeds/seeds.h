#ifndef TESTS_FUZZ_SEEDS_SEEDS_H_
#define TESTS_FUZZ_SEEDS_SEEDS_H_

#include <cstddef>
#include <span>
#include <string>
#include <utility>
#include <vector>

// Good inputs to begin a search with, made by the real encoders where there is
// one.

namespace bootstream {

// Writes FOLDER/TARGET/seed-NAME.
class Seeds {
 public:
  explicit Seeds(std::string folder) : folder_(std::move(folder)) {}
  void Put(const std::string& target, const std::string& name,
           std::span<const std::byte> bytes);
  void Put(const std::string& target, const std::string& name,
           const std::string& text);

 private:
  std::string folder_;
};

// What lies on disks and servers: images, the map, tables, file systems,
// firmware variables.
void PutImages(Seeds& seeds);
void PutMap(Seeds& seeds);
void PutTables(Seeds& seeds);
void PutFileSystems(Seeds& seeds);
void PutFirmware(Seeds& seeds);
// What is said: NBD, HTTP, JSON and small texts.
void PutNbd(Seeds& seeds);
void PutTexts(Seeds& seeds);
void PutHttp(Seeds& seeds);

}  // namespace bootstream

#endif  // TESTS_FUZZ_SEEDS_SEEDS_H_
