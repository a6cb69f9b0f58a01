"""Which blocks a machine has written to its disk from some moment on: a dirty
bitmap of QEMU's (https://www.qemu.org/docs/master/interop/bitmaps.html)."""

import json
import subprocess
import tempfile

BLOCK = 4096


def watch_writes(machine):
    """From now on; what was under way may or may not count."""
    machine.qmp.command("block-dirty-bitmap-add", node="drive",
                        name="written", granularity=BLOCK)


def keep_when_off(machine):
    """A shutdown of the guest stops QEMU and does not end it."""
    machine.qmp.command("set-action", shutdown="pause")


def written_extents(machine):
    """[[offset, size], ...] since watch_writes(), of a machine that stands
    still."""
    qmp = machine.qmp
    node, = (device["inserted"]["node-name"]
             for device in qmp.command("query-block")
             if device["device"] == "drive")
    with tempfile.TemporaryDirectory(prefix="written-") as folder:
        path = f"{folder}/nbd"
        # Only one that changes no more can be exported from a machine that is
        # off.
        qmp.command("block-dirty-bitmap-disable", node="drive",
                    name="written")
        qmp.command("nbd-server-start",
                    addr={"type": "unix", "data": {"path": path}})
        qmp.command("block-export-add", **{
            "type": "nbd", "id": "written", "node-name": node,
            "name": "disk", "bitmaps": ["written"]})
        done = subprocess.run(
            ["nbdinfo", "--map=qemu:dirty-bitmap:written", "--json",
             f"nbd+unix:///disk?socket={path}"],
            stdout=subprocess.PIPE, check=True)
        qmp.command("nbd-server-stop")
    return [[extent["offset"], extent["length"]]
            for extent in json.loads(done.stdout) if extent["type"] & 1]
