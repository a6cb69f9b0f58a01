#include "blockmap/image/curl_handle.h"

#include <cstdlib>

namespace bootstream {

CurlHandle MakeCurlHandle(const CurlSettings& settings) {
  static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);
  CurlHandle easy(curl_easy_init());
  if (ready != CURLE_OK || !easy) std::abort();
  CURL* const it = easy.get();
  curl_easy_setopt(it, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(it, CURLOPT_HTTP_VERSION, long{CURL_HTTP_VERSION_1_1});
  curl_easy_setopt(it, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(it, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(it, CURLOPT_FOLLOWLOCATION, 1L);
  curl_easy_setopt(it, CURLOPT_MAXREDIRS, 3L);
  curl_easy_setopt(it, CURLOPT_PROXY, "");
  curl_easy_setopt(it, CURLOPT_TCP_KEEPALIVE, 1L);
  curl_easy_setopt(it, CURLOPT_USERAGENT, "bootstream/" BOOTSTREAM_VERSION);
  curl_easy_setopt(it, CURLOPT_CONNECTTIMEOUT_MS,
                   static_cast<long>(settings.connect_timeout.count()));
  if (!settings.ca_file.empty()) {
    curl_easy_setopt(it, CURLOPT_CAINFO, settings.ca_file.c_str());
  }
  return easy;
}

}  // namespace bootstream
