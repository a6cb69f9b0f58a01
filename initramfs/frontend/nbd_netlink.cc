#include "initramfs/frontend/nbd_netlink.h"

#include <linux/nbd-netlink.h>
#include <netlink/genl/ctrl.h>
#include <netlink/genl/genl.h>
#include <netlink/netlink.h>

#include <cerrno>
#include <utility>

namespace bootstream {
namespace {

using Answer = NbdNetlink::Answer;

int OnMessage(nl_msg* message, void* context) {
  auto* answer = static_cast<Answer*>(context);
  const auto* header = static_cast<genlmsghdr*>(nlmsg_data(nlmsg_hdr(message)));
  const nlattr* index = nla_find(genlmsg_attrdata(header, 0),
                                 genlmsg_attrlen(header, 0), NBD_ATTR_INDEX);
  if (index != nullptr) answer->index = static_cast<int>(nla_get_u32(index));
  return NL_OK;
}

int OnAck(nl_msg*, void* context) {
  static_cast<Answer*>(context)->done = true;
  return NL_STOP;
}

int OnError(sockaddr_nl*, nlmsgerr* error, void* context) {
  auto* answer = static_cast<Answer*>(context);
  answer->done = true;
  answer->error = error->error;
  return NL_STOP;
}

// The attributes that CONNECT and RECONFIGURE share.  False: no room.
bool PutSocket(nl_msg* message, const NbdNetlink::Device& device) {
  nlattr* sockets = nla_nest_start(message, NBD_ATTR_SOCKETS);
  if (sockets == nullptr) return false;
  nlattr* item = nla_nest_start(message, NBD_SOCK_ITEM);
  if (item == nullptr) return false;
  if (nla_put_u32(message, NBD_SOCK_FD, static_cast<uint32_t>(device.socket)) <
      0) {
    return false;
  }
  nla_nest_end(message, item);
  nla_nest_end(message, sockets);
  return device.identifier.empty() ||
         nla_put_string(message, NBD_ATTR_BACKEND_IDENTIFIER,
                        device.identifier.c_str()) == 0;
}

bool PutTimeouts(nl_msg* message, const NbdNetlink::Device& device) {
  // A TIMEOUT of 0: a slow request is no reason to drop the connection.
  return nla_put_u64(message, NBD_ATTR_TIMEOUT, 0) == 0 &&
         nla_put_u64(message, NBD_ATTR_DEAD_CONN_TIMEOUT,
                     device.dead_connection_timeout_s) == 0;
}

Error NoRoom() {
  return Error{ErrorCode::kInvalid, "nbd: a netlink message is too small"};
}

}  // namespace

void NbdNetlink::FreeSocket::operator()(nl_sock* socket) const {
  nl_socket_free(socket);
}

void NbdNetlink::FreeMessage::operator()(nl_msg* message) const {
  nlmsg_free(message);
}

Result<NbdNetlink> NbdNetlink::Open() {
  std::unique_ptr<nl_sock, FreeSocket> socket(nl_socket_alloc());
  if (!socket) return Error{ErrorCode::kIo, "netlink: out of memory"};
  if (const int error = genl_connect(socket.get()); error < 0) {
    return Error{ErrorCode::kIo,
                 std::string("generic netlink: ") + nl_geterror(error)};
  }
  const int family = genl_ctrl_resolve(socket.get(), NBD_GENL_FAMILY_NAME);
  if (family < 0) {
    return Error{ErrorCode::kUnsupported,
                 "the kernel has no NBD client; load its module: modprobe nbd "
                 "max_part=0"};
  }
  return NbdNetlink(std::move(socket), family);
}

Result<NbdNetlink::Message> NbdNetlink::NewMessage(int command) const {
  Message message(nlmsg_alloc());
  if (!message ||
      genlmsg_put(message.get(), NL_AUTO_PORT, NL_AUTO_SEQ, family_, 0, 0,
                  static_cast<uint8_t>(command), NBD_GENL_VERSION) == nullptr) {
    return NoRoom();
  }
  return message;
}

NbdNetlink::Answer NbdNetlink::Ask(Message message) {
  Answer answer;
  nl_sock* socket = socket_.get();
  nl_socket_disable_seq_check(socket);
  nl_socket_modify_cb(socket, NL_CB_VALID, NL_CB_CUSTOM, OnMessage, &answer);
  nl_socket_modify_cb(socket, NL_CB_ACK, NL_CB_CUSTOM, OnAck, &answer);
  nl_socket_modify_err_cb(socket, NL_CB_CUSTOM, OnError, &answer);
  const Answer lost{true, -EIO, -1};
  if (nl_send_auto(socket, message.get()) < 0) return lost;
  while (!answer.done) {
    const int error = nl_recvmsgs_default(socket);
    if (error < 0 && !answer.done && error != -NLE_INTR) return lost;
  }
  return answer;
}

Result<int> NbdNetlink::Connect(const Device& device) {
  auto message = NewMessage(NBD_CMD_CONNECT);
  if (!message) return message.error();
  nl_msg* raw = message->get();
  const bool whole =
      (device.index < 0 ||
       nla_put_u32(raw, NBD_ATTR_INDEX, static_cast<uint32_t>(device.index)) ==
           0) &&
      nla_put_u64(raw, NBD_ATTR_SIZE_BYTES, device.size_bytes) == 0 &&
      nla_put_u64(raw, NBD_ATTR_BLOCK_SIZE_BYTES, device.block_bytes) == 0 &&
      nla_put_u64(raw, NBD_ATTR_SERVER_FLAGS, device.flags) == 0 &&
      PutTimeouts(raw, device) && PutSocket(raw, device);
  if (!whole) return NoRoom();
  const Answer answer = Ask(std::move(*message));
  if (answer.error == -EBUSY) {
    return Error{ErrorCode::kUnavailable, "nbd" + std::to_string(device.index) +
                                              " is connected already"};
  }
  if (answer.error < 0) {
    return ErrnoError(-answer.error, "connect an NBD device");
  }
  if (answer.index < 0) {
    return Error{ErrorCode::kIo, "the kernel did not tell its NBD device"};
  }
  return answer.index;
}

Status NbdNetlink::Reconfigure(const Device& device) {
  auto message = NewMessage(NBD_CMD_RECONFIGURE);
  if (!message) return message.error();
  nl_msg* raw = message->get();
  if (nla_put_u32(raw, NBD_ATTR_INDEX, static_cast<uint32_t>(device.index)) <
          0 ||
      !PutSocket(raw, device)) {
    return NoRoom();
  }
  const Answer answer = Ask(std::move(*message));
  if (answer.error == 0) return OkStatus();
  Error error =
      ErrnoError(-answer.error, "reconnect nbd" + std::to_string(device.index));
  if (answer.error == -EINVAL) error.code = ErrorCode::kNotFound;
  return error;
}

Status NbdNetlink::Disconnect(int index) {
  auto message = NewMessage(NBD_CMD_DISCONNECT);
  if (!message) return message.error();
  if (nla_put_u32(message->get(), NBD_ATTR_INDEX,
                  static_cast<uint32_t>(index)) < 0) {
    return NoRoom();
  }
  const Answer answer = Ask(std::move(*message));
  if (answer.error == 0) return OkStatus();
  return ErrnoError(-answer.error, "disconnect nbd" + std::to_string(index));
}

}  // namespace bootstream
