"""A serial console: wait for text, log in, run commands."""

import codecs
import re
import secrets
import socket
import threading
import time
from typing import NamedTuple

# Escape sequences of terminals, and the beginning of one that may still grow.
_ESCAPE = re.compile(r"\x1b(?:\[[0-9;:?!>=]*[ -/]*[@-~]|\][^\x07\x1b]*"
                     r"(?:\x07|\x1b\\)|P[^\x1b]*\x1b\\|[()#%].|[0-9=>A-OQ-Zc-z])")
_ESCAPE_BEGUN = re.compile(r"\x1b[^\x1b]{0,200}\Z", re.DOTALL)


class ConsoleError(Exception):
    pass


class ConsoleEnded(ConsoleError):
    """The machine is off."""


class CommandResult(NamedTuple):
    output: str
    exit_code: int


class Console:
    """Reads a Unix socket in a thread of its own and keeps all text since the
    start, without escape sequences; what came, as it came, is appended to the
    file `log`.  expect() goes on where the last match ended.  One user thread
    at a time."""

    def __init__(self, path, log):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._changed = threading.Condition()
        self._text = ""
        self._position = 0
        self._bytes = 0
        self._open = True
        self._log = open(log, "ab", buffering=0)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def text(self):
        """All that came so far."""
        with self._changed:
            return self._text

    @property
    def byte_count(self):
        """Bytes received so far, escape sequences too."""
        with self._changed:
            return self._bytes

    def tail(self, lines=40):
        return "\n".join(self.text.rstrip().splitlines()[-lines:])

    def expect(self, pattern, timeout, unless=None):
        """Wait until the regular expression `pattern` matches text that
        follows the last match; return the match.  `unless` is an expression
        that ends the waiting with an error when it matches first, for example
        "Kernel panic"."""
        pattern = re.compile(pattern, re.MULTILINE)
        unless = re.compile(unless, re.MULTILINE) if unless else None
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                match = pattern.search(self._text, self._position)
                bad = unless and unless.search(
                    self._text, self._position,
                    match.start() if match else len(self._text))
                if bad:
                    self._fail(f"saw {bad.group(0)!r} before "
                               f"{pattern.pattern!r}")
                if match:
                    self._position = match.end()
                    return match
                if not self._open:
                    self._fail(f"ended before {pattern.pattern!r}",
                               ConsoleEnded)
                left = deadline - time.monotonic()
                if left <= 0:
                    self._fail(f"no {pattern.pattern!r} in {timeout} s")
                self._changed.wait(left)

    def skip(self):
        """What has come so far is not looked at by the next expect()."""
        with self._changed:
            self._position = len(self._text)

    def send(self, text):
        self._socket.sendall(text.encode())

    def login(self, user="root", password="root", timeout=300):
        """Log in at the next prompt and quieten kernel messages."""
        self.expect(r"login: ", timeout, unless="Kernel panic")
        self.send(user + "\n")
        self.expect(r"[Pp]assword: ", 60)
        self.send(password + "\n")
        self.expect(r"[#$] \Z", 120, unless="Login incorrect")
        self.run("dmesg -n 1", 60)

    def run(self, command, timeout=120, check=True):
        """Run one line in the shell that waits at its prompt.  Return output
        and exit code; unless `check` is False a code other than 0 is an
        error."""
        token = secrets.token_hex(4)
        # The echo of this line matches neither mark.
        self.send(f" printf 'RUN-%s\\n' b{token}; {command}; "
                  f"printf '\\nRUN-%s-%d-\\n' e{token} $?\n")
        self.expect(f"RUN-b{token}\n", timeout, unless="Kernel panic")
        start = self._position
        end = self.expect(f"\nRUN-e{token}-(\\d+)-", timeout,
                          unless="Kernel panic")
        output = self.text[start:end.start() + 1]
        result = CommandResult(output, int(end.group(1)))
        if check and result.exit_code != 0:
            raise ConsoleError(f"{command}: exit code {result.exit_code}\n"
                               f"{result.output}")
        return result

    def close(self):
        """Read what is left, then close.  For when QEMU has ended."""
        self._reader.join()
        self._socket.close()
        self._log.close()

    def _fail(self, message, kind=ConsoleError):
        tail = "\n".join(self._text.rstrip().splitlines()[-40:])
        raise kind(f"console: {message}; its end:\n{tail}")

    def _read(self):
        decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        pending = ""
        while True:
            try:
                data = self._socket.recv(65536)
            except OSError:
                data = b""
            self._log.write(data)
            pending += decode(data)
            pending = _ESCAPE.sub("", pending)
            begun = _ESCAPE_BEGUN.search(pending) if data else None
            ready = pending[:begun.start()] if begun else pending
            pending = pending[len(ready):]
            with self._changed:
                self._text += ready.replace("\r", "")
                self._bytes += len(data)
                self._open = bool(data)
                self._changed.notify_all()
            if not data:
                return
