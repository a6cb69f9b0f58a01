"""Two network namespaces with a wire between them that has a rate and a
delay."""

import re
import subprocess

from tools.benches.site import SiteError, run
from tools.programs import BUILD

SERVER, CLIENT = "bootstream-server", "bootstream-client"
SERVER_ADDRESS, CLIENT_ADDRESS = "10.97.0.1", "10.97.0.2"
_MTU = 1500
# In a frame: IP and TCP with time stamps; and around it, preamble, Ethernet
# header and checksum, gap.
_HEADERS, _FRAMING = 52, 38


def at_server(*command):
    return ["ip", "netns", "exec", SERVER, *command]


def at_client(*command):
    return ["ip", "netns", "exec", CLIENT, *command]


class Wire:
    """`mbit` million bits a second, the round trip takes `round_trip_ms`."""

    def __init__(self, mbit, round_trip_ms):
        self._bytes_per_second = mbit * 1e6 / 8
        self._process = None
        for ns in (SERVER, CLIENT):
            subprocess.run(["ip", "netns", "delete", ns], check=False,
                           stderr=subprocess.DEVNULL)
            run("ip", "netns", "add", ns)
        self._process = subprocess.Popen(
            [BUILD / "tests/delay_link", SERVER, CLIENT, "--mbit", str(mbit),
             "--delay-us", str(round(round_trip_ms * 500))],
            stdout=subprocess.PIPE, text=True)
        if self._process.stdout.readline() != "ready\n":
            raise SiteError("delay_link does not start")
        for ns, address, peer in (
                (SERVER, SERVER_ADDRESS, CLIENT_ADDRESS),
                (CLIENT, CLIENT_ADDRESS, SERVER_ADDRESS)):
            run("ip", "-n", ns, "link", "set", "lo", "up")
            run("ip", "-n", ns, "address", "add", address, "peer", peer, "dev",
                "wire")
            run("ip", "-n", ns, "link", "set", "wire", "mtu", _MTU, "up")

    def payload_per_second(self):
        """Bytes that TCP carries over the full link."""
        return self._bytes_per_second * (_MTU - _HEADERS) / (_MTU + _FRAMING)

    def round_trip_s(self):
        """As ping sees it, the median of ten."""
        said = run(*at_client("ping", "-c", "10", "-i", "0.2",
                              SERVER_ADDRESS))
        times = sorted(float(found) for found in
                       re.findall(r" time=([0-9.]+) ms", said))
        return times[len(times) // 2] / 1e3

    def close(self):
        self._process.terminate()
        self._process.wait()
        for ns in (SERVER, CLIENT):
            run("ip", "netns", "delete", ns)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
