#ifndef INITRAMFS_CLOSURE_GRUB_CONFIG_H_
#define INITRAMFS_CLOSURE_GRUB_CONFIG_H_

#include <string>
#include <string_view>
#include <vector>

namespace bootstream {

// The paths that a grub.cfg names: words that begin with "/" or with "(...)/",
// as GRUB's shell splits them (GRUB manual, "Shell-like scripting"), without
// device and quotes; ascending, each once.  Words with variables behind the
// device, and what is only computed at boot, are not among them.  Pure.
std::vector<std::string> PathsNamedBy(std::string_view grub_cfg);

}  // namespace bootstream

#endif  // INITRAMFS_CLOSURE_GRUB_CONFIG_H_
