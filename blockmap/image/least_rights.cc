#include "blockmap/image/least_rights.h"

#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstdint>

namespace bootstream {

void DropRightsOfThisThread() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, 2> rights{};
  if (::syscall(SYS_capget, &header, rights.data()) != 0) return;
  const uint32_t kept = rights[0].permitted & (1U << CAP_IPC_LOCK);
  rights = {};
  rights[0].permitted = rights[0].effective = kept;
  // Without the right to have fewer rights there is nothing to do.
  (void)::syscall(SYS_capset, &header, rights.data());
}

void ForbidNewRights() { (void)::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); }

}  // namespace bootstream
