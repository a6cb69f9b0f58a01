#ifndef BLOCKMAP_NBD_NBD_HANDSHAKE_H_
#define BLOCKMAP_NBD_NBD_HANDSHAKE_H_

#include <string>

#include "blockmap/base/io_loop.h"
#include "blockmap/nbd/stream_reader.h"

namespace bootstream {

// What is offered to a client that asks.
struct NbdExport {
  std::string name;  // the empty name is answered too
  uint64_t size_bytes = 0;
  uint16_t flags = 0;  // transmission flags
};

// Talk with a client until it has chosen the export (true) or has left in good
// order (false).  Any broken rule of the protocol is kInvalid; the connection
// is of no further use then.  Understood: EXPORT_NAME, ABORT, LIST, INFO, GO;
// everything else, TLS and structured replies too, is declined.
Task<Result<bool>> NegotiateNbd(IoLoop& loop, int fd, StreamReader& reader,
                                const NbdExport& offered);

}  // namespace bootstream

#endif  // BLOCKMAP_NBD_NBD_HANDSHAKE_H_
