"""QEMU's machine protocol: commands and events as lines of JSON."""

import json
import socket


class QmpError(Exception):
    pass


class Qmp:
    """One connection.  One thread at a time."""

    def __init__(self, path, timeout=30):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout)
        self._socket.connect(str(path))
        self._lines = self._socket.makefile("rb")
        self._read()  # the greeting
        self.command("qmp_capabilities")

    def _read(self):
        line = self._lines.readline()
        if not line:
            raise QmpError("QEMU closed the connection")
        return json.loads(line)

    def command(self, name, /, **arguments):
        """Return the command's result.  Events that come in between are
        dropped."""
        request = {"execute": name, "arguments": arguments}
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        while True:
            reply = self._read()
            if "error" in reply:
                raise QmpError(f"{name}: {reply['error']['desc']}")
            if "return" in reply:
                return reply["return"]

    def close(self):
        self._lines.close()
        self._socket.close()
