#ifndef INITRAMFS_DRIVER_DECISIONS_H_
#define INITRAMFS_DRIVER_DECISIONS_H_

#include "initramfs/driver/control_client.h"

// What only a person decides: `streamctl rollback` and `commit`.  Each says
// what it means, asks, and does it; an exit code.

namespace bootstream {

struct DecisionOptions {
  bool yes = false;         // do not ask
  bool no_restart = false;  // rollback: the next start does it
  bool as_json = false;     // rollback: say it as one object
};

int RunRollback(ControlClient& client, const DecisionOptions& options);
int RunCommit(ControlClient& client, const DecisionOptions& options);

}  // namespace bootstream

#endif  // INITRAMFS_DRIVER_DECISIONS_H_
