#ifndef BLOCKMAP_IMAGE_HTTP_GET_H_
#define BLOCKMAP_IMAGE_HTTP_GET_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "blockmap/base/result.h"
#include "blockmap/image/curl_handle.h"

namespace bootstream {

struct GetLimits {
  uint64_t bytes_max = 0;
  // A server from which next to nothing comes for so long is given up; whole
  // seconds.
  std::chrono::milliseconds stall_timeout{15000};
  std::chrono::milliseconds timeout{3600000};  // in any case
};

// The whole file at `url`, asked for with `easy` as MakeCurlHandle(settings)
// made it; a handle is for one file.  Only a reply with status 200 that is not
// encoded is taken.  Blocking.
//
// kUnavailable: no answer, or one that says to come again; kNotFound: 404 or
// 410; kRefused: a certificate that is not good; kCorrupt: too long, or not
// the whole file.
Result<std::vector<std::byte>> HttpGet(CurlHandle easy, const std::string& url,
                                       const GetLimits& limits,
                                       const CurlSettings& settings);

// The same with a handle of its own, by a thread that has given up its rights
// (least_rights.h): the agent is root, what it asks is not.
Result<std::vector<std::byte>> HttpGetWithoutRights(
    const std::string& url, const GetLimits& limits,
    const CurlSettings& settings);

}  // namespace bootstream

#endif  // BLOCKMAP_IMAGE_HTTP_GET_H_
