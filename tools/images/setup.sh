# Steps that turn a bootstrapped tree into a machine; sourced by setup-source
# and setup-target.

set -euo pipefail
export LC_ALL=C.UTF-8

# New identifiers for an fstab: of an ext4, of a vfat.
ext4_id() { uuidgen; }
vfat_id() { uuidgen | tr a-f A-F | cut -c1-4,9-13; }

# setup_machine TREE HOSTNAME: serial console, DHCP on wired interfaces, root's
# password is "root".
setup_machine() {
  local tree=$1 hostname=$2
  echo "$hostname" >"$tree/etc/hostname"
  echo "127.0.0.1 localhost $hostname" >"$tree/etc/hosts"
  : >"$tree/etc/machine-id"
  echo root:root | chroot "$tree" chpasswd

  cat >"$tree/etc/systemd/network/80-dhcp.network" <<'END'
[Match]
Type=ether
Name=en* eth*

[Network]
DHCP=yes
END
  chroot "$tree" systemctl -q enable systemd-networkd
  chroot "$tree" systemctl -q disable systemd-networkd-wait-online

  mkdir -p "$tree/etc/default/grub.d" "$tree/boot/efi"
  cat >"$tree/etc/default/grub.d/serial.cfg" <<'END'
GRUB_TIMEOUT=1
GRUB_CMDLINE_LINUX_DEFAULT=""
GRUB_CMDLINE_LINUX="console=tty0 console=ttyS0,115200"
GRUB_TERMINAL="serial console"
GRUB_SERIAL_COMMAND="serial --speed=115200"
END
}

# make_initramfs TREE: for its one kernel, with fsck.ext4, as an installer
# would get it by looking at the root device.
make_initramfs() {
  local fstype=$1/etc/initramfs-tools/conf.d/fstype
  echo FSTYPE=ext4 >"$fstype"
  chroot "$1" sh -c 'update-initramfs -c -k "$(ls /lib/modules)"' >&2
  rm "$fstype"
}
