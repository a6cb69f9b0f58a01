#ifndef BLOCKMAP_IMAGE_CURL_HANDLE_H_
#define BLOCKMAP_IMAGE_CURL_HANDLE_H_

#include <curl/curl.h>

#include <chrono>
#include <memory>
#include <string>

namespace bootstream {

struct CurlFree {
  void operator()(CURL* easy) const { curl_easy_cleanup(easy); }
};
using CurlHandle = std::unique_ptr<CURL, CurlFree>;

struct CurlListFree {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};
using CurlList = std::unique_ptr<curl_slist, CurlListFree>;

struct CurlSettings {
  std::string ca_file;  // PEM; empty: the system's
  std::chrono::milliseconds connect_timeout{5000};
};

// A handle set up the way we talk to every server: HTTP/1.1, http and https
// only, few redirects, no proxy, no signals.  Aborts without memory.
CurlHandle MakeCurlHandle(const CurlSettings& settings);

}  // namespace bootstream

#endif  // BLOCKMAP_IMAGE_CURL_HANDLE_H_
