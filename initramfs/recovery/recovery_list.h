#ifndef INITRAMFS_RECOVERY_RECOVERY_LIST_H_
#define INITRAMFS_RECOVERY_RECOVERY_LIST_H_

#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace bootstream {

// Names of the kernel's drivers and modules that this machine's network devices
// use, by what `sysfs` (/sys) says.
std::set<std::string> NetworkDrivers(const std::string& sysfs);

// The paths of a list of the recovery set, in its order, each once.  A line is
// an absolute path, which may be a pattern (glob(7)) or a folder, or
// "net=NAME PATH": of use where a network device has that driver.  Lines that
// say something else are passed over.  Pure.
std::vector<std::string> PathsOfList(std::string_view text,
                                     const std::set<std::string>& drivers);

}  // namespace bootstream

#endif  // INITRAMFS_RECOVERY_RECOVERY_LIST_H_
