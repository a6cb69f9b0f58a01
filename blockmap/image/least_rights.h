#ifndef BLOCKMAP_IMAGE_LEAST_RIGHTS_H_
#define BLOCKMAP_IMAGE_LEAST_RIGHTS_H_

namespace bootstream {

// The calling thread, which looks at bytes from the network, gives up every
// capability but that of locking memory (a process that has called mlockall
// needs it to allocate).  Its memory is shared with threads that have them all:
// this stops a mistake, and slows an attacker down.  For good.
void DropRightsOfThisThread();

// No process that this one becomes or starts gets more rights than it has.
void ForbidNewRights();

}  // namespace bootstream

#endif  // BLOCKMAP_IMAGE_LEAST_RIGHTS_H_
