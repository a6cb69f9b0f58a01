#include <ctime>

// Preloaded into a program: its clock says that it is 1970, as that of a
// machine whose battery is empty.

extern "C" time_t time(time_t* out) noexcept {
  constexpr time_t kDay = 86400;
  if (out != nullptr) *out = kDay;
  return kDay;
}
