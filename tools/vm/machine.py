"""One QEMU process with a disk, a network card and a serial console."""

import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from .console import Console
from .packet_count import PacketCount
from .qmp import Qmp

_OVMF = Path("/usr/share/OVMF")


class MachineError(Exception):
    pass


class Machine:
    """A machine that runs from entering the `with` block (or start()) until it
    is shut down, its power is cut, or the block is left.

    disk      raw disk file, changed in place, or the URI of an NBD export
    work_dir  where NAME.console.log (appended), NAME.qemu.log, NAME.pcap and
              NAME.vars.fd (UEFI variables, kept from one run to the next) lie
    firmware  "uefi" or "bios"
    boot      "disk" or "network": which one the firmware tries first
    boot_url  what the DHCP server names as the boot file
    cpus      with more than one, the emulator may run a processor into a
              breakpoint that another is patching away ("Oops: int3")
    """

    def __init__(self, disk, work_dir, *, name="machine", firmware="uefi",
                 boot="disk", boot_url=None, memory="2G", cpus=1,
                 disk_serial="BOOTSTREAM-0001", mac="52:54:00:12:34:56",
                 cache="unsafe", extra=()):
        if firmware not in ("uefi", "bios") or boot not in ("disk", "network"):
            raise ValueError(f"firmware {firmware!r}, boot {boot!r}")
        work_dir = Path(work_dir)
        self.disk = disk
        self.name = name
        self.firmware = firmware
        self.boot = boot
        self.boot_url = boot_url
        self.memory = memory
        self.cpus = cpus
        self.disk_serial = disk_serial
        self.mac = mac
        self.cache = cache
        self.extra = list(extra)
        self.console_log = work_dir / f"{name}.console.log"
        self.qemu_log = work_dir / f"{name}.qemu.log"
        self.pcap = work_dir / f"{name}.pcap"
        self.vars_file = work_dir / f"{name}.vars.fd"
        self.console = None
        self.qmp = None
        self._process = None
        self._sockets = None
        self._packets = None
        self._started = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.cut_power()

    def start(self):
        """Turn the power on and connect to the console."""
        if self._process:
            raise MachineError(f"{self.name} runs already")
        if self.firmware == "uefi" and not self.vars_file.exists():
            shutil.copy(_OVMF / "OVMF_VARS_4M.fd", self.vars_file)
        self.console = self.qmp = None
        self._sockets = Path(tempfile.mkdtemp(prefix="vm-"))
        # Packets of an earlier run do not count.
        self.pcap.unlink(missing_ok=True)
        self._packets = PacketCount(self.pcap, self.mac)
        self._started = time.monotonic()
        with self.qemu_log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command_line(), stdin=subprocess.DEVNULL, stdout=log,
                stderr=log)
        try:
            # QEMU waits for the console, so that no byte of it is lost; the
            # QMP socket exists once the console's does and answers later.
            self.console = self._connect(
                "console", lambda path: Console(path, self.console_log))
            self.qmp = self._connect("qmp", Qmp)
        except BaseException:
            self.cut_power()
            raise

    def seconds(self):
        """Since the power was turned on."""
        return time.monotonic() - self._started

    @property
    def pid(self):
        return self._process.pid

    def running(self):
        return self._process is not None and self._process.poll() is None

    def wait_off(self, timeout):
        """Wait until the machine has turned itself off."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise MachineError(f"{self.name} not off after {timeout} s:\n"
                               f"{self.console.tail()}") from None
        self._gone()

    def shut_down(self, timeout=180):
        """Press the power button and wait until the machine is off."""
        self.qmp.command("system_powerdown")
        self.wait_off(timeout)

    def cut_power(self):
        """Stop at once.  What the guest wrote stays written, as on a disk
        without a volatile cache.  Does nothing when the power is off."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._gone()

    def reset(self):
        """Press the reset button."""
        self.qmp.command("system_reset")

    def set_link(self, up):
        """Plug the network cable in, or pull it."""
        self.qmp.command("set_link", name="nic", up=up)

    def set_boot(self, boot):
        """Change what the firmware tries first, from the next reset on."""
        self.boot = boot
        disk, network = self._boot_indexes()
        # Two devices cannot have one index, not even for a moment.
        self._set_property("disk", "bootindex", -1)
        self._set_property("nic", "bootindex", network)
        self._set_property("disk", "bootindex", disk)

    def screendump(self, path):
        """Write the screen as a PNG file."""
        self.qmp.command("screendump", filename=str(path), format="png")

    def network_bytes(self):
        """(received, sent) by the guest since the power was turned on."""
        return self._packets.update()

    def _set_property(self, device, name, value):
        self.qmp.command("qom-set", path=f"/machine/peripheral/{device}",
                         property=name, value=value)

    def _boot_indexes(self):
        return (1, 2) if self.boot == "disk" else (2, 1)

    def _connect(self, name, kind):
        """QEMU makes its sockets some moments after its start."""
        path = self._sockets / name
        while True:
            try:
                return kind(path)
            except (FileNotFoundError, ConnectionRefusedError):
                pass
            try:
                self._process.wait(0.02)
            except subprocess.TimeoutExpired:
                continue
            raise MachineError("QEMU ended: " + self.qemu_log.read_text())

    def _gone(self):
        self._packets.update()
        self._process = None
        if self.qmp:
            self.qmp.close()
        if self.console:
            self.console.close()
        shutil.rmtree(self._sockets, ignore_errors=True)

    def _command_line(self):
        disk_index, network_index = self._boot_indexes()
        network = "user,id=net"
        if self.boot_url:
            network += f",bootfile={self.boot_url}"
        firmware = []
        if self.firmware == "uefi":
            firmware = [
                "-drive", "if=pflash,format=raw,unit=0,readonly=on,file="
                f"{_OVMF / 'OVMF_CODE_4M.fd'}",
                "-drive", f"if=pflash,format=raw,unit=1,file={self.vars_file}"]
        return [
            # QEMU ends when we do, whatever our end is.
            "setpriv", "--pdeathsig", "KILL",
            "qemu-system-x86_64", "-name", self.name,
            "-accel", "tcg,thread=multi", "-smp", str(self.cpus),
            "-m", self.memory, "-nodefaults", "-display", "none",
            # The BIOS shows its screen on the serial console too.
            "-machine", "pc,graphics=off", "-device", "VGA", *firmware,
            "-drive", f"file={self.disk},format=raw,if=none,id=drive,"
            f"cache={self.cache},discard=unmap",
            "-device", "virtio-blk-pci,id=disk,drive=drive,"
            f"serial={self.disk_serial},bootindex={disk_index}",
            "-netdev", network,
            "-device", f"virtio-net-pci,id=nic,netdev=net,mac={self.mac},"
            f"bootindex={network_index}",
            "-object", f"filter-dump,id=dump,netdev=net,file={self.pcap},"
            "maxlen=64",
            "-device", "virtio-rng-pci",
            "-chardev", f"socket,id=console,path={self._sockets / 'console'},"
            "server=on,wait=on",
            "-serial", "chardev:console",
            "-qmp", f"unix:{self._sockets / 'qmp'},server=on,wait=off",
            *self.extra]
