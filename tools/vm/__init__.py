"""Virtual machines for demo and tests: QEMU, its console, its network.

    server = FileServer({"boot.ipxe": script, "vmlinuz": Path("vmlinuz")})
    with Machine(disk, work_dir, firmware="uefi", boot="network",
                 boot_url=server.guest_url("boot.ipxe")) as machine:
        machine.console.login("root", "root", timeout=300)
        print(machine.console.run("uname -r").output)
        machine.shut_down()

Waits are for conditions, each with a limit in seconds; what did not come is
an exception that carries the end of the console.
"""

from .console import CommandResult, Console, ConsoleError
from .file_server import FileServer
from .machine import Machine, MachineError
from .qmp import Qmp, QmpError

__all__ = ["CommandResult", "Console", "ConsoleError", "FileServer",
           "Machine", "MachineError", "Qmp", "QmpError"]
