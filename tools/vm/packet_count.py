"""Count the bytes of the packets in a pcap file that is still growing."""

import struct

_FILE_HEADER_BYTES = 24
_RECORD_HEADER = struct.Struct("=IIII")  # seconds, microseconds, kept, length


class PacketCount:
    """Of QEMU's filter-dump: bytes on the wire, Ethernet headers included, to
    and from the machine with address `mac`."""

    def __init__(self, path, mac):
        self._path = path
        self._mac = bytes.fromhex(mac.replace(":", ""))
        self._offset = _FILE_HEADER_BYTES
        self.received = 0
        self.sent = 0

    def update(self):
        """Read on; return (received, sent) since the start."""
        try:
            with open(self._path, "rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return self.received, self.sent
        at = 0
        while at + _RECORD_HEADER.size <= len(data):
            _, _, kept, length = _RECORD_HEADER.unpack_from(data, at)
            packet = at + _RECORD_HEADER.size
            if packet + kept > len(data):
                break
            if data[packet + 6:packet + 12] == self._mac:
                self.sent += length
            else:
                self.received += length
            at = packet + kept
        self._offset += at
        return self.received, self.sent
