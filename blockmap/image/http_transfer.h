#ifndef BLOCKMAP_IMAGE_HTTP_TRANSFER_H_
#define BLOCKMAP_IMAGE_HTTP_TRANSFER_H_

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "blockmap/base/aligned_buffer.h"
#include "blockmap/base/executor.h"
#include "blockmap/image/curl_handle.h"
#include "blockmap/image/fetch_queue.h"

namespace bootstream {

// One Range request under way, and the frames that are cut out of its body as
// it arrives.  Taken is only status 206 with exactly the range asked for, or
// status 200 that says it is the whole pack; never is more kept than one frame,
// nor more looked at than what was asked for and kHeaderBytesMax of headers.
// The network thread's.
class HttpTransfer {
 public:
  struct Request {
    std::string url;
    size_t server = 0;
    uint64_t pack_bytes = 0;
    bool past_caches =
        false;  // a cache has lied to us: Cache-Control: no-cache
    FetchBatch batch;
  };
  enum class Outcome {
    kDone,
    kServerFailed,  // no connection, a break, 429, 5xx: it may be back later
    kWrongReply,    // it works, and answers something else
  };
  // How it ended; the rest matters if it was not kDone.
  struct Verdict {
    Outcome outcome = Outcome::kDone;
    FetchTrouble trouble = FetchTrouble::kConnection;
    std::string why;                      // for people
    std::chrono::seconds retry_after{0};  // what the server asked for
  };
  // A frame has arrived whole.
  using OnFrame = std::function<void(WantedFrame, AlignedBuffer)>;

  HttpTransfer(CurlHandle easy, Request request, Executor::Duration now,
               OnFrame on_frame);
  // REQUIRES: its handle is in no multi handle.
  ~HttpTransfer();
  HttpTransfer(const HttpTransfer&) = delete;
  HttpTransfer& operator=(const HttpTransfer&) = delete;

  CURL* handle() const { return easy_.get(); }
  Verdict Judge(CURLcode code, const CurlSettings& settings) const;
  // Frames that have not arrived.
  std::vector<WantedFrame> TakeRest();

  // While held no byte is taken from the socket.
  void Hold(bool hold, Executor::Duration now);
  bool held() const { return held_; }
  // True if the reply was more than was asked for: the whole pack.
  bool whole_file() const;
  // The last time something arrived that is worth the name: a trickle of a few
  // bytes is none.  Now, while held.
  Executor::Duration last_activity() const { return last_activity_; }
  void SetNow(Executor::Duration now) { now_ = now; }
  bool Promote(const FrameKey& key, FetchClass fetch_class);

  FetchClass fetch_class() const { return request_.batch.fetch_class; }
  size_t server() const { return request_.server; }
  uint64_t size() const { return end_ - begin_; }
  Executor::Duration started() const { return started_; }
  // Bytes asked for that have not come.
  uint64_t remaining() const {
    return end_ - std::clamp(position_, begin_, end_);
  }
  // Bytes of bodies since the last call.
  uint64_t TakeReceived() { return std::exchange(received_, 0); }
  // How long after the request the reply began, once.
  std::optional<Executor::Duration> TakeFirstByteWait() {
    return std::exchange(first_byte_wait_, std::nullopt);
  }

 private:
  static size_t OnHeader(char* data, size_t size, size_t count, void* self);
  static size_t OnBody(char* data, size_t size, size_t count, void* self);
  bool Header(std::string_view line);
  void NoteFirstByte();
  void Heard(size_t bytes);
  size_t Body(std::span<const std::byte> data);
  // Is the reply one whose body we want?  Sets position_.
  bool AcceptReply();
  bool Refuse(std::string why);
  bool Cut(std::span<const std::byte> data);

  CurlHandle easy_;
  CurlList headers_;
  Request request_;
  OnFrame on_frame_;
  const uint64_t begin_;
  const uint64_t end_;
  std::string content_range_;
  size_t header_bytes_ = 0;
  bool encoded_ = false;
  bool accepted_ = false;
  bool held_ = false;
  bool paused_ = false;  // curl was told so
  bool complete_ = false;
  bool whole_ = false;
  std::string refusal_;
  uint64_t position_ = 0;  // in the pack, of the next byte of the body
  uint64_t received_ = 0;
  size_t next_ = 0;  // frame being filled
  AlignedBuffer current_;
  std::array<char, CURL_ERROR_SIZE> detail_{};
  std::optional<Executor::Duration> first_byte_wait_;
  const Executor::Duration started_;
  size_t heard_ = 0;  // bytes since last_activity_
  Executor::Duration now_;
  Executor::Duration last_activity_;
};

}  // namespace bootstream

#endif  // BLOCKMAP_IMAGE_HTTP_TRANSFER_H_
