#include "blockmap/image/curl_handle.h"

#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>
#include <strings.h>

#include <cstdlib>
#include <ctime>

#include "blockmap/base/printable.h"

namespace bootstream {
namespace {

constexpr time_t kBuildTime = time_t{BOOTSTREAM_BUILD_DAY} * 86400;

int SettingsIndex() {
  static const int index =
      SSL_CTX_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
  return index;
}

const CurlSettings* SettingsOf(X509_STORE_CTX* chain) {
  const auto* ssl = static_cast<const SSL*>(
      X509_STORE_CTX_get_ex_data(chain, SSL_get_ex_data_X509_STORE_CTX_idx()));
  if (ssl == nullptr) return nullptr;
  return static_cast<const CurlSettings*>(
      SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), SettingsIndex()));
}

// Called for each certificate of a chain and for each thing that is wrong with
// it.  Only the dates are forgiven; everything else ends the handshake.
int ForgiveDates(int ok, X509_STORE_CTX* chain) {
  if (ok != 0) return ok;
  const int error = X509_STORE_CTX_get_error(chain);
  if (error != X509_V_ERR_CERT_HAS_EXPIRED &&
      error != X509_V_ERR_CERT_NOT_YET_VALID) {
    return 0;
  }
  const CurlSettings* settings = SettingsOf(chain);
  if (settings == nullptr) return 0;
  if (settings->dated_certificates != nullptr) ++*settings->dated_certificates;
  X509_STORE_CTX_set_error(chain, X509_V_OK);
  return 1;
}

CURLcode SetUpTls(CURL*, void* context, void* user) {
  auto* tls = static_cast<SSL_CTX*>(context);
  auto* settings = static_cast<CurlSettings*>(user);
  if (std::time(nullptr) < kBuildTime) {
    X509_VERIFY_PARAM_set_time(SSL_CTX_get0_param(tls), kBuildTime);
  }
  if (!settings->tolerate_dates) return CURLE_OK;
  if (SSL_CTX_set_ex_data(tls, SettingsIndex(), settings) != 1) {
    return CURLE_OUT_OF_MEMORY;
  }
  SSL_CTX_set_verify(tls, SSL_VERIFY_PEER, &ForgiveDates);
  return CURLE_OK;
}

}  // namespace

CurlHandle MakeCurlHandle(const CurlSettings& settings) {
  static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);
  CurlHandle easy(curl_easy_init());
  if (ready != CURLE_OK || !easy) std::abort();
  CURL* const it = easy.get();
  curl_easy_setopt(it, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(it, CURLOPT_HTTP_VERSION, long{CURL_HTTP_VERSION_1_1});
  curl_easy_setopt(it, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(it, CURLOPT_FOLLOWLOCATION, 1L);
  curl_easy_setopt(it, CURLOPT_MAXREDIRS, 3L);
  curl_easy_setopt(it, CURLOPT_PROXY, "");
  curl_easy_setopt(it, CURLOPT_TCP_KEEPALIVE, 1L);
  curl_easy_setopt(it, CURLOPT_USERAGENT, "bootstream/" BOOTSTREAM_VERSION);
  curl_easy_setopt(it, CURLOPT_CONNECTTIMEOUT_MS,
                   static_cast<long>(settings.connect_timeout.count()));
  curl_easy_setopt(it, CURLOPT_SSLVERSION, long{CURL_SSLVERSION_TLSv1_2});
  if (!settings.ca_file.empty()) {
    curl_easy_setopt(it, CURLOPT_CAINFO, settings.ca_file.c_str());
    // Or the system's authorities would be trusted beside it.
    curl_easy_setopt(it, CURLOPT_CAPATH, nullptr);
  }
  curl_easy_setopt(it, CURLOPT_SSL_CTX_FUNCTION, &SetUpTls);
  curl_easy_setopt(it, CURLOPT_SSL_CTX_DATA, &settings);
  return easy;
}

void SetUrl(CURL* easy, const std::string& url) {
  const bool secure = ::strncasecmp(url.c_str(), "https:", 6) == 0;
  curl_easy_setopt(easy, CURLOPT_URL, url.c_str());
  curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS_STR,
                   secure ? "https" : "http,https");
}

bool IsCertificateTrouble(CURLcode code) {
  return code == CURLE_PEER_FAILED_VERIFICATION ||
         code == CURLE_SSL_CACERT_BADFILE || code == CURLE_SSL_ISSUER_ERROR;
}

std::string DescribeCurlError(CURLcode code, const char* detail,
                              const CurlSettings& settings) {
  const std::string authorities =
      settings.ca_file.empty() ? "the system's authorities" : settings.ca_file;
  if (code == CURLE_SSL_CACERT_BADFILE) {
    return "certificates cannot be read from " + authorities;
  }
  // It may hold what the server said.
  std::string what =
      Printable(detail[0] != '\0' ? detail : curl_easy_strerror(code));
  if (code != CURLE_PEER_FAILED_VERIFICATION) return what;
  return what + " (checked with " + authorities + ")";
}

}  // namespace bootstream
