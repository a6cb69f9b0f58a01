#ifndef BLOCKMAP_BASE_PRINTABLE_H_
#define BLOCKMAP_BASE_PRINTABLE_H_

#include <cstddef>
#include <string>
#include <string_view>

namespace bootstream {

// What somebody else has sent, fit for a message, a log and JSON: bytes that
// are not printable ASCII become '?', and what is beyond `bytes_max` "...".
std::string Printable(std::string_view text, size_t bytes_max = 100);

}  // namespace bootstream

#endif  // BLOCKMAP_BASE_PRINTABLE_H_
