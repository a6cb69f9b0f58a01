#include "blockmap/image/http_transfer.h"

#include <strings.h>

#include <algorithm>
#include <cstring>
#include <span>
#include <string_view>
#include <utility>

#include "blockmap/base/printable.h"

namespace bootstream {
namespace {

// Fewer bytes than these in a whole time-out are a stall, not a transfer.
constexpr size_t kTrickleBytes = 4096;
// Longer pauses that a server asks for are not kept.
constexpr std::chrono::seconds kRetryAfterMax(60);

bool IsForLater(long status) {
  return status >= 500 || status == 408 || status == 429;
}

// The value of header `line` if its name is `name`.
bool HeaderIs(std::string_view line, std::string_view name,
              std::string_view& value) {
  if (line.size() <= name.size() || line[name.size()] != ':' ||
      ::strncasecmp(line.data(), name.data(), name.size()) != 0) {
    return false;
  }
  value = line.substr(name.size() + 1);
  const auto blank = [](char c) { return c == ' ' || c == '\t'; };
  while (!value.empty() && blank(value.front())) value.remove_prefix(1);
  while (!value.empty() && (blank(value.back()) || value.back() == '\r' ||
                            value.back() == '\n')) {
    value.remove_suffix(1);
  }
  return true;
}

}  // namespace

HttpTransfer::HttpTransfer(CurlHandle easy, Request request,
                           Executor::Duration now, OnFrame on_frame)
    : easy_(std::move(easy)),
      request_(std::move(request)),
      on_frame_(std::move(on_frame)),
      begin_(request_.batch.begin()),
      end_(request_.batch.end()),
      started_(now),
      now_(now),
      last_activity_(now) {
  CURL* const it = easy_.get();
  const std::string range =
      std::to_string(begin_) + "-" + std::to_string(end_ - 1);
  if (request_.past_caches) {
    headers_.reset(curl_slist_append(nullptr, "Cache-Control: no-cache"));
  }
  SetUrl(it, request_.url);
  curl_easy_setopt(it, CURLOPT_ERRORBUFFER, detail_.data());
  curl_easy_setopt(it, CURLOPT_RANGE, range.c_str());
  curl_easy_setopt(it, CURLOPT_HTTPHEADER, headers_.get());
  curl_easy_setopt(it, CURLOPT_HEADERFUNCTION, &HttpTransfer::OnHeader);
  curl_easy_setopt(it, CURLOPT_HEADERDATA, this);
  curl_easy_setopt(it, CURLOPT_WRITEFUNCTION, &HttpTransfer::OnBody);
  curl_easy_setopt(it, CURLOPT_WRITEDATA, this);
  curl_easy_setopt(it, CURLOPT_PRIVATE, this);
  curl_easy_setopt(it, CURLOPT_BUFFERSIZE, 256L * 1024);
}

size_t HttpTransfer::OnHeader(char* data, size_t size, size_t count,
                              void* self) {
  const std::string_view line(data, size * count);
  return static_cast<HttpTransfer*>(self)->Header(line) ? line.size() : 0;
}

HttpTransfer::~HttpTransfer() {
  curl_easy_setopt(easy_.get(), CURLOPT_ERRORBUFFER, nullptr);
}

bool HttpTransfer::whole_file() const {
  return whole_ && size() < request_.pack_bytes;
}

void HttpTransfer::Heard(size_t bytes) {
  heard_ += bytes;
  if (heard_ < kTrickleBytes) return;
  heard_ = 0;
  last_activity_ = now_;
}

size_t HttpTransfer::OnBody(char* data, size_t size, size_t count, void* self) {
  const std::span<const char> bytes(data, size * count);
  return static_cast<HttpTransfer*>(self)->Body(std::as_bytes(bytes));
}

bool HttpTransfer::Header(std::string_view line) {
  if (header_bytes_ == 0) NoteFirstByte();
  Heard(line.size());
  header_bytes_ += line.size();
  if (header_bytes_ > kHeaderBytesMax) return Refuse("endless headers");
  std::string_view value;
  if (line.starts_with("HTTP/")) {  // a new reply, after a redirect
    content_range_.clear();
    encoded_ = false;
  } else if (HeaderIs(line, "Content-Range", value)) {
    content_range_ = value;
  } else if (HeaderIs(line, "Content-Encoding", value)) {
    encoded_ = value != "identity";
  }
  return true;
}

void HttpTransfer::NoteFirstByte() {
  curl_off_t sent_us = 0;
  curl_off_t begun_us = 0;
  curl_easy_getinfo(easy_.get(), CURLINFO_PRETRANSFER_TIME_T, &sent_us);
  curl_easy_getinfo(easy_.get(), CURLINFO_STARTTRANSFER_TIME_T, &begun_us);
  if (sent_us <= 0 || begun_us <= sent_us) return;
  first_byte_wait_ = std::chrono::microseconds(begun_us - sent_us);
}

bool HttpTransfer::Refuse(std::string why) {
  refusal_ = std::move(why);
  return false;
}

bool HttpTransfer::AcceptReply() {
  long status = 0;
  curl_off_t length = -1;
  curl_easy_getinfo(easy_.get(), CURLINFO_RESPONSE_CODE, &status);
  curl_easy_getinfo(easy_.get(), CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
  if (status != 200 && status != 206) {
    return Refuse("status " + std::to_string(status));
  }
  if (encoded_) return Refuse("the reply is encoded");
  const uint64_t expected = status == 206 ? size() : request_.pack_bytes;
  if (length >= 0 && static_cast<uint64_t>(length) != expected) {
    return Refuse("a reply of " + std::to_string(length) +
                  " bytes instead of " + std::to_string(expected));
  }
  if (status == 200) {
    whole_ = true;
    position_ = 0;
    return length >= 0 || Refuse("a whole file of unknown length");
  }
  const std::string range =
      "bytes " + std::to_string(begin_) + "-" + std::to_string(end_ - 1) + "/";
  position_ = begin_;
  return content_range_ == range + std::to_string(request_.pack_bytes) ||
         content_range_ == range + "*" ||
         Refuse("range '" + Printable(content_range_) + "' instead of '" +
                range + std::to_string(request_.pack_bytes) + "'");
}

size_t HttpTransfer::Body(std::span<const std::byte> data) {
  if (held_) {
    paused_ = true;
    return CURL_WRITEFUNC_PAUSE;
  }
  Heard(data.size());
  if (!accepted_) {
    if (!AcceptReply()) return 0;
    accepted_ = true;
  }
  received_ += data.size();
  return Cut(data) ? data.size() : 0;
}

bool HttpTransfer::Cut(std::span<const std::byte> data) {
  auto& frames = request_.batch.frames;
  while (!data.empty()) {
    if (next_ == frames.size()) {
      complete_ = position_ >= end_;
      return false;  // the rest of a whole pack, or more than was asked for
    }
    const FrameKey& key = frames[next_].key;
    if (position_ < key.offset) {
      const auto skip = std::min<uint64_t>(key.offset - position_, data.size());
      position_ += skip;
      data = data.subspan(skip);
      continue;
    }
    const auto take = std::min<uint64_t>(key.end() - position_, data.size());
    if (current_.size() == 0) {
      current_ = AlignedBuffer::Unfilled(key.packed_bytes);
    }
    std::memcpy(current_.data() + (position_ - key.offset), data.data(), take);
    position_ += take;
    data = data.subspan(take);
    if (position_ == key.end()) {
      on_frame_(std::move(frames[next_]), std::exchange(current_, {}));
      ++next_;
    }
  }
  complete_ = next_ == frames.size();
  return true;
}

HttpTransfer::Verdict HttpTransfer::Judge(CURLcode code,
                                          const CurlSettings& settings) const {
  // Frames that came are good or not by their digest; extra bytes after them
  // were not looked at.
  Verdict verdict;
  if (complete_) return verdict;
  verdict.outcome = Outcome::kServerFailed;
  verdict.why = request_.url + ": ";
  long status = 0;
  curl_easy_getinfo(easy_.get(), CURLINFO_RESPONSE_CODE, &status);
  const bool answered = code == CURLE_OK || !refusal_.empty();
  if (answered && status >= 300) {
    verdict.trouble = FetchTrouble::kStatus;
    verdict.why += "status " + std::to_string(status);
    if (!IsForLater(status)) verdict.outcome = Outcome::kWrongReply;
    curl_off_t seconds = 0;
    curl_easy_getinfo(easy_.get(), CURLINFO_RETRY_AFTER, &seconds);
    verdict.retry_after = std::clamp(std::chrono::seconds(seconds),
                                     std::chrono::seconds(0), kRetryAfterMax);
  } else if (!refusal_.empty()) {
    verdict.trouble = FetchTrouble::kWrongReply;
    verdict.why += refusal_;
    verdict.outcome = Outcome::kWrongReply;
  } else if (code == CURLE_OK || code == CURLE_PARTIAL_FILE) {
    verdict.trouble = FetchTrouble::kShortReply;
    verdict.why += "the reply ended early";
  } else if (code == CURLE_TOO_MANY_REDIRECTS ||
             code == CURLE_UNSUPPORTED_PROTOCOL) {
    verdict.trouble = FetchTrouble::kWrongReply;
    verdict.why += "redirects that are not followed";
    verdict.outcome = Outcome::kWrongReply;
  } else {
    verdict.trouble = IsCertificateTrouble(code) ? FetchTrouble::kCertificate
                      : code == CURLE_OPERATION_TIMEDOUT
                          ? FetchTrouble::kStall
                          : FetchTrouble::kConnection;
    verdict.why += DescribeCurlError(code, detail_.data(), settings);
  }
  return verdict;
}

std::vector<WantedFrame> HttpTransfer::TakeRest() {
  auto& frames = request_.batch.frames;
  std::vector<WantedFrame> rest(
      std::make_move_iterator(frames.begin() + static_cast<long>(next_)),
      std::make_move_iterator(frames.end()));
  frames.resize(next_);
  return rest;
}

void HttpTransfer::Hold(bool hold, Executor::Duration now) {
  held_ = hold;
  heard_ = 0;
  last_activity_ = now;
  SetNow(now);
  // Continuing may hand data to Body at once.
  if (!hold && std::exchange(paused_, false)) {
    curl_easy_pause(easy_.get(), CURLPAUSE_CONT);
  }
}

bool HttpTransfer::Promote(const FrameKey& key, FetchClass fetch_class) {
  auto& batch = request_.batch;
  for (size_t i = next_; i < batch.frames.size(); ++i) {
    if (batch.frames[i].key != key) continue;
    batch.frames[i].fetch_class =
        std::min(batch.frames[i].fetch_class, fetch_class);
    batch.fetch_class = std::min(batch.fetch_class, fetch_class);
    return true;
  }
  return false;
}

}  // namespace bootstream
