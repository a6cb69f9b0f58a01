// Memory that does not fit, for tests of swap:
//
//   dirty_memory MIB
//
// writes to every page, over and over, in an order that is no order, after a
// look whether it still has what was written there last.  At the end of each
// pass a line says how many there were; SIGTERM ends it after the pass.

#include <signal.h>
#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <iostream>

namespace bootstream {
namespace {

constexpr size_t kPageWords = 4096 / sizeof(uint64_t);
constexpr size_t kStep = 7919;  // a prime

volatile sig_atomic_t told_to_end = 0;

uint64_t Word(uint64_t pass, uint64_t page, uint64_t word) {
  uint64_t x = (pass << 40) ^ (page << 10) ^ word;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  return x ^ (x >> 27);
}

bool IsWhole(const uint64_t* words, uint64_t pass, uint64_t page) {
  for (size_t i = 0; i < kPageWords; ++i) {
    if (words[i] != (pass == 0 ? 0 : Word(pass, page, i))) return false;
  }
  return true;
}

int Run(size_t pages) {
  void* memory = ::mmap(nullptr, pages * 4096, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return 1;
  for (uint64_t pass = 0; told_to_end == 0; ++pass) {
    for (size_t i = 0; i < pages; ++i) {
      const size_t page = i * kStep % pages;
      uint64_t* words = static_cast<uint64_t*>(memory) + page * kPageWords;
      if (!IsWhole(words, pass, page)) {
        std::cout << "page " << page << " is wrong in pass " << pass
                  << std::endl;
        return 1;
      }
      for (size_t j = 0; j < kPageWords; ++j) {
        words[j] = Word(pass + 1, page, j);
      }
    }
    std::cout << pass + 1 << std::endl;
  }
  return 0;
}

}  // namespace
}  // namespace bootstream

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  ::signal(SIGTERM, [](int) { bootstream::told_to_end = 1; });
  // An even number: the step meets every page.
  return bootstream::Run(std::strtoul(argv[1], nullptr, 10) * 256);
}
