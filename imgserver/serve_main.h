#ifndef IMGSERVER_SERVE_MAIN_H_
#define IMGSERVER_SERVE_MAIN_H_

#include <string>

#include "blockmap/base/result.h"

namespace bootstream {

// What `imgserver serve` was told.
struct ServeOptions {
  std::string repo;
  std::string listen;
  std::string config_file;  // empty: defaults
  std::string access_log;   // empty: standard output
  std::string port_file;    // empty: none
};

// Serve until SIGTERM or SIGINT; SIGHUP opens the access log anew.  One line on
// standard error says where it listens; after that, `port_file` holds the port.
// Called once, from the main thread, before any other thread exists.
Status RunServe(const ServeOptions& options);

}  // namespace bootstream

#endif  // IMGSERVER_SERVE_MAIN_H_
