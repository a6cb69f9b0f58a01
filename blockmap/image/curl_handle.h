#ifndef BLOCKMAP_IMAGE_CURL_HANDLE_H_
#define BLOCKMAP_IMAGE_CURL_HANDLE_H_

#include <curl/curl.h>

#include <atomic>
#include <chrono>
#include <cstdint>
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
  // PEM: these authorities and no others are trusted; empty: the system's.
  std::string ca_file;
  std::chrono::milliseconds connect_timeout{5000};
  // Take a certificate that is wrong in nothing but its dates.  Only for what
  // is checked by digest anyway: a machine whose clock is wrong, or a server
  // whose certificate has run out, must not keep a disk from its data.
  bool tolerate_dates = false;
  // Counts the connections for which that was needed; not owned, may be null.
  std::atomic<uint64_t>* dated_certificates = nullptr;
};

// All headers of a reply, redirects included, are shorter than this.
inline constexpr size_t kHeaderBytesMax = 64 << 10;

// A handle set up the way we talk to every server: HTTP/1.1, http and https
// only, few redirects, no proxy, no signals; TLS 1.2 or later, and for judging
// certificates the clock is never earlier than the day this program was built.
// Aborts without memory.  `settings` must outlive the handle.
CurlHandle MakeCurlHandle(const CurlSettings& settings);

// What to ask for.  From https no redirect leads back to http.
void SetUrl(CURL* easy, const std::string& url);

// True if `code` says that it is not the server that we are to trust.
bool IsCertificateTrouble(CURLcode code);
// What went wrong, for people; `detail` is the handle's error buffer.
std::string DescribeCurlError(CURLcode code, const char* detail,
                              const CurlSettings& settings);

}  // namespace bootstream

#endif  // BLOCKMAP_IMAGE_CURL_HANDLE_H_
