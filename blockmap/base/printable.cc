#include "blockmap/base/printable.h"

#include <algorithm>

namespace bootstream {

std::string Printable(std::string_view text, size_t bytes_max) {
  std::string out(text.substr(0, bytes_max));
  std::ranges::replace_if(
      out, [](char c) { return c < ' ' || c > '~'; }, '?');
  if (text.size() > bytes_max) out += "...";
  return out;
}

}  // namespace bootstream
