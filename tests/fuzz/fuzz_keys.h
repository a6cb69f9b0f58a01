#ifndef TESTS_FUZZ_FUZZ_KEYS_H_
#define TESTS_FUZZ_FUZZ_KEYS_H_

#include "blockmap/image/signing.h"

// A key that everybody knows, so that what lies behind a signature is reached
// and seeds stay good.

namespace bootstream {

const PrivateKey& FuzzKey();
const TrustedKeys& FuzzTrustedKeys();

}  // namespace bootstream

#endif  // TESTS_FUZZ_FUZZ_KEYS_H_
