"""A small NBD client over a Unix socket: the fixed newstyle handshake, simple
replies, one request at a time.  Source: NetworkBlockDevice/nbd doc/proto.md."""

import socket
import struct

_NBD_MAGIC = 0x4e42444d41474943
_OPTION_MAGIC = 0x49484156454f5054
_OPT_EXPORT_NAME = 1
_REQUEST_MAGIC = 0x25609513
_SIMPLE_REPLY_MAGIC = 0x67446698
_READ, _WRITE, _DISCONNECT, _FLUSH, _TRIM, _WRITE_ZEROES = 0, 1, 2, 3, 4, 6


class NbdError(Exception):
    """The server answered a request with an error, or went away."""


class NbdClient:
    """Offsets and lengths in bytes."""

    def __init__(self, path, timeout_s):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout_s)
        self._socket.connect(str(path))
        self._handle = 0
        self.size = self._handshake()

    def _receive(self, size):
        parts = bytearray()
        while len(parts) < size:
            part = self._socket.recv(min(size - len(parts), 1 << 20))
            if not part:
                raise NbdError("the server closed the connection")
            parts += part
        return bytes(parts)

    def _handshake(self):
        magic, option, _ = struct.unpack(">QQH", self._receive(18))
        if (magic, option) != (_NBD_MAGIC, _OPTION_MAGIC):
            raise NbdError("no NBD server")
        # Client flags: fixed newstyle, no zeroes.
        self._socket.sendall(struct.pack(">IQII", 3, _OPTION_MAGIC,
                                         _OPT_EXPORT_NAME, 0))
        size, _ = struct.unpack(">QH", self._receive(10))
        return size

    def _request(self, kind, offset, length, data=b""):
        self._handle += 1
        self._socket.sendall(struct.pack(
            ">IHHQQI", _REQUEST_MAGIC, 0, kind, self._handle, offset, length)
            + data)
        magic, error, handle = struct.unpack(">IIQ", self._receive(16))
        if magic != _SIMPLE_REPLY_MAGIC or handle != self._handle:
            raise NbdError("a reply to something else")
        if error:
            raise NbdError(f"request {kind} at {offset}, {length} bytes: "
                           f"error {error}")

    def read(self, offset, length):
        self._request(_READ, offset, length)
        return self._receive(length)

    def write(self, offset, data):
        self._request(_WRITE, offset, len(data), data)

    def trim(self, offset, length):
        self._request(_TRIM, offset, length)

    def write_zeroes(self, offset, length):
        self._request(_WRITE_ZEROES, offset, length)

    def flush(self):
        self._request(_FLUSH, 0, 0)

    def close(self):
        try:
            self._handle += 1
            self._socket.sendall(struct.pack(
                ">IHHQQI", _REQUEST_MAGIC, 0, _DISCONNECT, self._handle, 0, 0))
        except OSError:
            pass
        self._socket.close()
