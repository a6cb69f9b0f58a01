#include "imgserver/boot_recorder.h"

#include <poll.h>
#include <regex.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <memory>

#include "blockmap/base/file_util.h"
#include "blockmap/base/io_loop.h"
#include "blockmap/nbd/nbd_server.h"
#include "imgserver/overlay_disk.h"

namespace bootstream {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kWrittenBytesMax = uint64_t{2} << 30;
constexpr uint64_t kVariablesBytesMax = 64 << 20;
constexpr size_t kConsoleKept = size_t{64} << 10;
constexpr size_t kTailLines = 15;
// What a console says that will not come to a prompt any more.
constexpr const char* kLost =
    "emergency mode|Kernel panic|grub rescue>|No bootable device|ALERT!";

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::error_code error;
    std::string name = fs::temp_directory_path(error) / "imgtool-XXXXXX";
    if (!error && ::mkdtemp(name.data()) != nullptr) path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    if (!path_.empty()) fs::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::string& path() const { return path_; }  // empty: failed

 private:
  std::string path_;
};

class Pattern {
 public:
  Pattern() = default;
  ~Pattern() {
    if (ready_) ::regfree(&compiled_);
  }
  Pattern(const Pattern&) = delete;
  Pattern& operator=(const Pattern&) = delete;

  Status Set(const std::string& text) {
    if (::regcomp(&compiled_, text.c_str(), REG_EXTENDED | REG_NOSUB) != 0) {
      return Error{ErrorCode::kInvalid,
                   "'" + text + "' is no regular expression"};
    }
    ready_ = true;
    return OkStatus();
  }
  bool Matches(const std::string& text) const {
    return ::regexec(&compiled_, text.c_str(), 0, nullptr, 0) == 0;
  }

 private:
  regex_t compiled_{};
  bool ready_ = false;
};

// The end of what the machine said on its serial console.
class ConsoleText {
 public:
  void Append(std::string text) {
    std::replace(text.begin(), text.end(), '\0', ' ');
    text_ += text;
    if (text_.size() > kConsoleKept) {
      text_.erase(0, text_.size() - kConsoleKept);
    }
  }
  const std::string& text() const { return text_; }
  std::string Tail() const {
    size_t at = text_.size();
    for (size_t i = 0; i < kTailLines && at != std::string::npos && at > 0;
         ++i) {
      at = text_.rfind('\n', at - 1);
    }
    return at == std::string::npos ? text_ : text_.substr(at);
  }

 private:
  std::string text_;
};

class Recorder {
 public:
  Recorder(const RecordOptions& options, const DiskImage& image, IoLoop& loop,
           Progress& progress)
      : options_(options),
        loop_(loop),
        progress_(progress),
        overlay_(image, kWrittenBytesMax) {
    trace_.disk_bytes = image.size_bytes();
    trace_.firmware = options.firmware == Firmware::kUefi ? "uefi" : "bios";
  }

  Result<BootTrace> Record() {
    if (auto s = until_.Set(options_.until); !s) return s.error();
    if (auto s = lost_.Set(kLost); !s) return s.error();
    if (folder_.path().empty()) return ErrnoError(errno, "temporary folder");
    if (auto s = OpenConsoleFile(); !s) return s.error();
    MachineOptions machine;
    machine.firmware = options_.firmware;
    machine.memory_mib = options_.memory_mib;
    machine.accel = options_.accel;
    machine.disk_socket = folder_.path() + "/disk";
    machine.variables_file = folder_.path() + "/variables";
    if (auto s = CopyVariables(machine); !s) return s.error();
    auto server = NbdServer::Listen(loop_, overlay_, machine.disk_socket,
                                    ServerOptions());
    if (!server) return server.error();
    began_ = loop_.Now();
    auto child = ChildProcess::Start(QemuCommand(machine));
    Status status = OkStatus();
    if (child) {
      child_ = std::move(*child);
      progress_.Start("watch the boot", 0);
      status = loop_.RunUntilDone(Watch());
      progress_.Finish();
      child_.reset();
    } else {
      status = child.error();
    }
    const Status stopped = loop_.RunUntilDone((*server)->Stop());
    if (!status) return status.error();
    if (!stopped) return stopped.error();
    return std::move(trace_);
  }

 private:
  Status OpenConsoleFile() {
    if (options_.console_file.empty()) return OkStatus();
    console_file_.reset(std::fopen(options_.console_file.c_str(), "we"));
    if (console_file_) return OkStatus();
    return ErrnoError(errno, "open " + options_.console_file);
  }

  Status CopyVariables(const MachineOptions& machine) {
    if (machine.firmware != Firmware::kUefi) return OkStatus();
    const auto variables = ReadWholeFile(kOvmfVariables, kVariablesBytesMax);
    if (!variables) {
      return Annotate(variables.error(), "UEFI firmware (apt install ovmf)");
    }
    return WriteFileDurably(machine.variables_file, *variables, 0600,
                            IfExists::kFail);
  }

  NbdOptions ServerOptions() {
    NbdOptions options;
    options.on_read = [this](uint64_t offset, uint32_t size,
                             Executor::Duration when) {
      using std::chrono::milliseconds;
      const auto ms = std::chrono::duration_cast<milliseconds>(when - began_);
      trace_.reads.push_back({static_cast<uint64_t>(ms.count()), offset, size});
      progress_.Add(size);
    };
    return options;
  }

  Error Ended(const std::string& how) const {
    return Error{ErrorCode::kUnavailable,
                 "the boot did not come to '" + options_.until + "': " + how +
                     "; the console's end:" + console_.Tail()};
  }

  // Some more of what the console says; an error when there is no more.
  Status ReadConsole(Executor::Duration deadline) {
    std::array<char, 4096> buffer{};
    const ssize_t got =
        ::read(child_->output_fd(), buffer.data(), buffer.size());
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return OkStatus();
    if (got <= 0) {
      return Ended(loop_.Now() >= deadline ? "it took too long"
                                           : "the machine went off");
    }
    const auto size = static_cast<size_t>(got);
    if (console_file_) {
      std::fwrite(buffer.data(), 1, size, console_file_.get());
      std::fflush(console_file_.get());
    }
    console_.Append(std::string(buffer.data(), size));
    return OkStatus();
  }

  // Until the console shows what we wait for, or that it never will.
  Task<Status> Watch() {
    const auto deadline = loop_.Now() + options_.timeout;
    loop_.PostAfter(options_.timeout, [this, alive = watching_] {
      if (*alive) child_->Kill();
    });
    Status status = OkStatus();
    while (status && !until_.Matches(console_.text())) {
      if (lost_.Matches(console_.text())) {
        status = Ended("the system does not start");
        break;
      }
      const int events = co_await loop_.Poll(child_->output_fd(), POLLIN);
      status = events < 0 ? ErrnoError(-events, "poll") : ReadConsole(deadline);
    }
    *watching_ = false;
    child_->Kill();
    co_return status;
  }

  struct FileClose {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };

  const RecordOptions& options_;
  IoLoop& loop_;
  Progress& progress_;
  OverlayDisk overlay_;
  TemporaryFolder folder_;
  BootTrace trace_;
  ConsoleText console_;
  Pattern until_;
  Pattern lost_;
  std::unique_ptr<std::FILE, FileClose> console_file_;
  std::unique_ptr<ChildProcess> child_;
  std::shared_ptr<bool> watching_ = std::make_shared<bool>(true);
  Executor::Duration began_{0};
};

}  // namespace

Result<BootTrace> RecordBoot(const RecordOptions& options, Progress& progress) {
  const auto image = DiskImage::Open(options.disk);
  if (!image) return image.error();
  auto loop = IoLoop::Create();
  if (!loop) return loop.error();
  auto trace = Recorder(options, *image, **loop, progress).Record();
  if (!trace) return trace;
  if (!FindTakeOver(*trace)) {
    return Error{ErrorCode::kRefused,
                 options.disk +
                     ": booted, but the streaming driver never looked at the "
                     "disk; install the bootstream package in the image"};
  }
  return trace;
}

}  // namespace bootstream
