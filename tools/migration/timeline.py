"""Phases of a run: seconds and bytes over the network of each."""

import time


class Timeline:
    """`network_bytes()` gives what the machine has received so far."""

    def __init__(self, say):
        self.phases = []
        self._say = say
        self._count = lambda: 0
        self._start = time.monotonic()
        self._bytes = 0

    def watch(self, network_bytes):
        """A new machine: its bytes count from here on."""
        self._count = network_bytes
        self._bytes = network_bytes()
        self._start = time.monotonic()

    def phase(self, name):
        """The phase `name` has just ended."""
        now, count = time.monotonic(), self._count()
        phase = {"name": name, "seconds": round(now - self._start, 1),
                 "network_bytes": count - self._bytes}
        self._start, self._bytes = now, count
        self.phases.append(phase)
        self._say(f"{name}: {phase['seconds']:.1f} s, "
                  f"{phase['network_bytes'] / 1e6:.1f} MB")

    def table(self, image_bytes_used):
        """Lines for people; the share is that of the image in use."""
        lines = [f"{'phase':40} {'seconds':>8} {'MB':>8} {'of image':>9}"]
        for phase in self.phases:
            share = phase["network_bytes"] / image_bytes_used
            lines.append(f"{phase['name']:40} {phase['seconds']:8.1f} "
                         f"{phase['network_bytes'] / 1e6:8.1f} {share:9.1%}")
        return "\n".join(lines)
