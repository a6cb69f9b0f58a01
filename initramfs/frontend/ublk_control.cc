#include "initramfs/frontend/ublk_control.h"

#include <fcntl.h>
#include <linux/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <span>

#include "blockmap/base/types.h"

namespace bootstream {
namespace {

constexpr uint32_t kDevicesMax = 64;
constexpr uint8_t kFeaturesNumber = 0x13;  // UBLK_CMD_GET_FEATURES

constexpr uint32_t Reading(uint8_t number) {
  return _IOR('u', number, ublksrv_ctrl_cmd);
}
constexpr uint32_t Both(uint8_t number) {
  return _IOWR('u', number, ublksrv_ctrl_cmd);
}

ublksrv_ctrl_cmd Command(uint32_t id) {
  ublksrv_ctrl_cmd command{};
  command.dev_id = id;
  command.queue_id = UINT16_MAX;
  return command;
}

template <typename T>
ublksrv_ctrl_cmd Command(uint32_t id, T& buffer) {
  ublksrv_ctrl_cmd command = Command(id);
  command.addr = reinterpret_cast<uint64_t>(&buffer);
  command.len = sizeof buffer;
  return command;
}

ublksrv_ctrl_cmd CommandOfServer(uint32_t id) {
  ublksrv_ctrl_cmd command = Command(id);
  command.data[0] = static_cast<uint64_t>(::getpid());
  return command;
}

Status Outcome(int result, const std::string& what) {
  if (result >= 0) return OkStatus();
  return ErrnoError(-result, "ublk: " + what);
}

ublk_params Parameters(const UblkDevice& device) {
  ublk_params params{};
  params.len = sizeof params;
  params.types = UBLK_PARAM_TYPE_BASIC | UBLK_PARAM_TYPE_DISCARD;
  params.basic.attrs = UBLK_ATTR_VOLATILE_CACHE | UBLK_ATTR_FUA |
                       (device.read_only ? UBLK_ATTR_READ_ONLY : 0);
  params.basic.logical_bs_shift = 9;
  params.basic.physical_bs_shift = 12;
  params.basic.io_opt_shift = 12;
  params.basic.io_min_shift = 12;
  params.basic.max_sectors =
      static_cast<uint32_t>(device.request_bytes_max / kSectorBytes);
  params.basic.dev_sectors = device.size_bytes / kSectorBytes;
  params.discard.discard_granularity = kBlockBytes;
  params.discard.max_discard_sectors = UINT32_MAX >> 9;
  params.discard.max_write_zeroes_sectors = UINT32_MAX >> 9;
  params.discard.max_discard_segments = 1;
  return params;
}

}  // namespace

std::string UblkBlockName(uint32_t id) { return "ublkb" + std::to_string(id); }

std::string UblkCharName(uint32_t id) { return "ublkc" + std::to_string(id); }

Result<std::unique_ptr<UblkControl>> UblkControl::Open(int dev) {
  std::unique_ptr<UblkControl> control(new UblkControl);
  control->fd_.reset(::openat(dev, "ublk-control", O_RDWR | O_CLOEXEC));
  if (!control->fd_) {
    return Error{ErrorCode::kUnsupported,
                 std::string("/dev/ublk-control: ") + std::strerror(errno) +
                     "; 'modprobe ublk_drv' loads the driver"};
  }
  const int error =
      io_uring_queue_init(4, &control->ring_, IORING_SETUP_SQE128);
  if (error < 0) return ErrnoError(-error, "io_uring_setup");
  control->ring_ready_ = true;
  const auto features = control->Features();
  if (!features) return features.error();
  if ((*features & kUblkFlags) != kUblkFlags) {
    return Error{ErrorCode::kUnsupported,
                 "the kernel's ublk driver is too old: Linux 6.5 is needed"};
  }
  return control;
}

UblkControl::~UblkControl() {
  if (ring_ready_) io_uring_queue_exit(&ring_);
}

int UblkControl::Do(uint32_t operation, ublksrv_ctrl_cmd command) {
  io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
  io_uring_prep_rw(IORING_OP_URING_CMD, sqe, fd_.get(), nullptr, 0, 0);
  sqe->cmd_op = operation;
  // The entry is twice as long as its type (SQE128).
  constexpr size_t kFirst = sizeof *sqe - offsetof(io_uring_sqe, cmd);
  const auto bytes = std::as_bytes(std::span(&command, 1));
  std::memcpy(sqe->cmd, bytes.data(), kFirst);
  std::memcpy(sqe + 1, bytes.data() + kFirst, bytes.size() - kFirst);
  if (const int error = io_uring_submit(&ring_); error < 0) return error;
  io_uring_cqe* cqe = nullptr;
  int error = 0;
  while ((error = io_uring_wait_cqe(&ring_, &cqe)) == -EINTR) {
  }
  if (error < 0) return error;
  const int result = cqe->res;
  io_uring_cqe_seen(&ring_, cqe);
  return result;
}

Result<uint64_t> UblkControl::Features() {
  uint64_t features = 0;
  const int result =
      Do(Reading(kFeaturesNumber), Command(UINT32_MAX, features));
  if (result < 0) {
    return Error{ErrorCode::kUnsupported,
                 "the kernel's ublk driver does not say what it can"};
  }
  return features;
}

Result<ublksrv_ctrl_dev_info> UblkControl::Add(const UblkDevice& device) {
  ublksrv_ctrl_dev_info info{};
  info.nr_hw_queues = device.queues;
  info.queue_depth = device.queue_depth;
  info.max_io_buf_bytes = device.request_bytes_max;
  info.dev_id = UINT32_MAX;  // a free one
  info.ublksrv_pid = ::getpid();
  info.flags = kUblkFlags;
  info.ublksrv_flags = device.name;
  int result = Do(Both(UBLK_CMD_ADD_DEV), Command(UINT32_MAX, info));
  if (auto s = Outcome(result, "add a device"); !s) return s.error();
  ublk_params params = Parameters(device);
  result = Do(Both(UBLK_CMD_SET_PARAMS), Command(info.dev_id, params));
  if (auto s = Outcome(result, "describe the device"); !s) {
    (void)Delete(info.dev_id);
    return s.error();
  }
  return info;
}

Status UblkControl::Start(uint32_t id) {
  return Outcome(Do(Both(UBLK_CMD_START_DEV), CommandOfServer(id)),
                 "start the device");
}

Status UblkControl::Stop(uint32_t id) {
  return Outcome(Do(Both(UBLK_CMD_STOP_DEV), Command(id)), "stop the device");
}

Status UblkControl::Delete(uint32_t id) {
  return Outcome(Do(Both(UBLK_CMD_DEL_DEV), Command(id)), "delete the device");
}

Result<ublksrv_ctrl_dev_info> UblkControl::Info(uint32_t id) {
  ublksrv_ctrl_dev_info info{};
  const int result = Do(Reading(UBLK_CMD_GET_DEV_INFO), Command(id, info));
  if (auto s = Outcome(result, "ask for the device"); !s) return s.error();
  return info;
}

Result<uint64_t> UblkControl::SizeBytes(uint32_t id) {
  ublk_params params{};
  params.len = sizeof params;
  const int result = Do(Reading(UBLK_CMD_GET_PARAMS), Command(id, params));
  if (auto s = Outcome(result, "ask for the size"); !s) return s.error();
  return params.basic.dev_sectors * kSectorBytes;
}

std::vector<ublksrv_ctrl_dev_info> UblkControl::Find(uint64_t name) {
  std::vector<ublksrv_ctrl_dev_info> found;
  for (uint32_t id = 0; id < kDevicesMax; ++id) {
    const auto info = Info(id);
    if (info && info->ublksrv_flags == name) found.push_back(*info);
  }
  return found;
}

Status UblkControl::StartRecovery(uint32_t id) {
  const int result = Do(Both(UBLK_CMD_START_USER_RECOVERY), Command(id));
  if (result == -EBUSY) {
    return Error{ErrorCode::kUnavailable,
                 "/dev/" + UblkBlockName(id) +
                     " is served by another process; stop that first"};
  }
  if (result == -EINVAL) {
    // A server before us died when it had come as far as this.
    const auto info = Info(id);
    if (info && info->state == UBLK_S_DEV_QUIESCED) return OkStatus();
  }
  return Outcome(result, "take over the device");
}

Status UblkControl::EndRecovery(uint32_t id) {
  return Outcome(Do(Both(UBLK_CMD_END_USER_RECOVERY), CommandOfServer(id)),
                 "go on with the device");
}

}  // namespace bootstream
