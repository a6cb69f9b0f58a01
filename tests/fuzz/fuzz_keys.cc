#include "tests/fuzz/fuzz_keys.h"

#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/memory_file.h"

namespace bootstream {
namespace {

constexpr std::string_view kPem =
    "-----BEGIN PRIVATE KEY-----\n"
    "MC4CAQAwBQYDK2VwBCIEIOMZUnHFhFNy4Odj4W56Jv7GC47nJP6W4Omh4u1U6MEk\n"
    "-----END PRIVATE KEY-----\n";

PrivateKey LoadKey() {
  MemoryFile file;
  file.Fill(AsBytes(kPem));
  auto key = PrivateKey::Load(file.path());
  Require(key.has_value(), "the key can be read");
  return std::move(*key);
}

TrustedKeys Trust() {
  auto key = FuzzKey().public_key();
  Require(key.has_value(), "the key has a public half");
  TrustedKeys keys;
  keys.Add(std::move(*key));
  return keys;
}

}  // namespace

const PrivateKey& FuzzKey() {
  static const PrivateKey key = LoadKey();
  return key;
}

const TrustedKeys& FuzzTrustedKeys() {
  static const TrustedKeys keys = Trust();
  return keys;
}

}  // namespace bootstream
