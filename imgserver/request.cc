#include "imgserver/request.h"

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/basic_parser.hpp>
#include <boost/beast/http/error.hpp>

namespace bootstream {
namespace {

namespace http = boost::beast::http;
using boost::beast::string_view;
using ErrorCodeBeast = boost::beast::error_code;

std::string_view View(string_view text) { return {text.data(), text.size()}; }

// Collects what Beast's parser finds in a header.
class HeaderParser final : public http::basic_parser<true> {
 public:
  const Request& request() const { return request_; }
  bool repeats_field() const { return repeats_field_; }
  bool has_transfer_encoding() const { return has_transfer_encoding_; }
  int host_count() const { return host_count_; }

 private:
  void on_request_impl(http::verb, string_view method, string_view target,
                       int version, ErrorCodeBeast&) override {
    request_.method = View(method);
    request_.target = View(target);
    request_.is_http_1_0 = version < 11;
  }

  void on_field_impl(http::field name, string_view, string_view value,
                     ErrorCodeBeast&) override {
    switch (name) {
      case http::field::host:
        ++host_count_;
        break;
      case http::field::content_length:
        request_.has_body |= View(value) != "0";
        break;
      case http::field::transfer_encoding:
        has_transfer_encoding_ = true;
        break;
      case http::field::range:
        SetOnce(request_.range, value);
        break;
      case http::field::if_range:
        SetOnce(request_.if_range, value);
        break;
      case http::field::if_match:
        SetOnce(request_.if_match, value);
        break;
      case http::field::if_none_match:
        SetOnce(request_.if_none_match, value);
        break;
      case http::field::if_modified_since:
        SetOnce(request_.if_modified_since, value);
        break;
      case http::field::if_unmodified_since:
        SetOnce(request_.if_unmodified_since, value);
        break;
      default:
        break;
    }
  }

  void SetOnce(std::string_view& field, string_view value) {
    repeats_field_ |= field.data() != nullptr;
    field = View(value);
  }

  // Required by the base class; a request's header has none of these.
  void on_response_impl(int, string_view, int, ErrorCodeBeast&) override {}
  void on_header_impl(ErrorCodeBeast&) override {}
  void on_body_init_impl(const boost::optional<std::uint64_t>&,
                         ErrorCodeBeast&) override {}
  std::size_t on_body_impl(string_view body, ErrorCodeBeast&) override {
    return body.size();
  }
  void on_chunk_header_impl(std::uint64_t, string_view,
                            ErrorCodeBeast&) override {}
  std::size_t on_chunk_body_impl(std::uint64_t, string_view body,
                                 ErrorCodeBeast&) override {
    return body.size();
  }
  void on_finish_impl(ErrorCodeBeast&) override {}

  Request request_;
  bool repeats_field_ = false;
  bool has_transfer_encoding_ = false;
  int host_count_ = 0;
};

bool HasFoldedLine(std::string_view text) {
  return text.find("\r\n ") != std::string_view::npos ||
         text.find("\r\n\t") != std::string_view::npos;
}

// Whether the first line is a request of another version, and not garbage.
bool NamesAnotherVersion(std::string_view text) {
  const std::string_view line = text.substr(0, text.find("\r\n"));
  const size_t at = line.rfind(" HTTP/");
  if (at == std::string_view::npos || line.size() - at != 9) return false;
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  return is_digit(line[at + 6]) && line[at + 7] == '.' &&
         is_digit(line[at + 8]);
}

}  // namespace

std::optional<size_t> FindHeaderEnd(std::string_view text, size_t& checked) {
  constexpr std::string_view kEnd = "\r\n\r\n";
  const size_t at = text.find(kEnd, checked);
  if (at != std::string_view::npos) return at + kEnd.size();
  // The end may have begun in the last three bytes.
  checked = text.size() < kEnd.size() ? 0 : text.size() - (kEnd.size() - 1);
  return std::nullopt;
}

tl::expected<Request, Refusal> ParseRequest(std::string_view text) {
  const auto refuse = [](int status, std::string_view reason) {
    return tl::unexpected(Refusal{status, reason});
  };
  if (HasFoldedLine(text)) return refuse(400, "A header line is folded.");
  HeaderParser parser;
  parser.header_limit(static_cast<std::uint32_t>(text.size() + 1));
  parser.body_limit(boost::none);
  ErrorCodeBeast error;
  parser.put(boost::asio::const_buffer(text.data(), text.size()), error);
  if (error == http::error::bad_version && NamesAnotherVersion(text)) {
    return refuse(505, "This server speaks HTTP/1.0 and HTTP/1.1.");
  }
  if ((error && error != http::error::need_more) || !parser.is_header_done()) {
    return refuse(400, "This is not an HTTP request.");
  }
  if (parser.has_transfer_encoding()) {
    return refuse(400, "Requests with a body are not taken.");
  }
  Request request = parser.request();
  if (parser.host_count() > 1 ||
      (parser.host_count() == 0 && !request.is_http_1_0)) {
    return refuse(400, "A request has one Host header.");
  }
  if (parser.repeats_field()) {
    return refuse(400, "A header that may come once came twice.");
  }
  request.keep_alive = parser.keep_alive();
  return request;
}

}  // namespace bootstream
