# Disk files with partitions, file systems and GRUB; sourced, not run.
#
# Works without partition scanning and without a vfat driver: loop devices
# are set up by offset and size, FAT is made with mkfs.vfat and mtools.
# Callers run under private_mounts, so whatever is mounted, and every loop
# device behind it, goes away with them.

# make_disk IMAGE MIB NAME:TYPE:MIB...
# A sparse raw disk with a GPT.  Partitions begin at 1 MiB, are whole MiBs,
# and follow each other; a size of 0 means all but the last MiB.
make_disk() {
  local image=$1 disk_mib=$2 at=1 number=1 name type size
  shift 2
  rm -f "$image"
  truncate -s "${disk_mib}M" "$image"
  local options=(--clear)
  for spec in "$@"; do
    IFS=: read -r name type size <<<"$spec"
    [ "$size" != 0 ] || size=$((disk_mib - 1 - at))
    options+=(--new="$number:$((at * 2048)):$(((at + size) * 2048 - 1))"
      --typecode="$number:$type" --change-name="$number:$name")
    at=$((at + size)) number=$((number + 1))
  done
  sgdisk "${options[@]}" "$image" >/dev/null
}

has_partition() { # IMAGE NAME
  partx --noheadings --raw --output NAME "$1" | grep -Fxq "$2"
}

# partition IMAGE NAME: print its first byte and its size in bytes.
partition() {
  local name=$2 found
  found=$(partx --noheadings --raw --output NAME,START,SECTORS "$1" |
    awk -v name="$name" '$1 == name { printf "%.0f %.0f\n", $2 * 512, $3 * 512 }')
  [ -n "$found" ] || die "$1: no partition named $name"
  echo "$found"
}

# mount_partition IMAGE NAME DIRECTORY [OPTIONS]
mount_partition() {
  local offset size
  read -r offset size < <(partition "$1" "$2")
  mount -t ext4 -o "loop,offset=$offset,sizelimit=$size${4:+,$4}" "$1" "$3"
}

# make_ext4 IMAGE NAME UUID [MKFS OPTIONS...]
make_ext4() {
  local image=$1 name=$2 uuid=$3 offset size
  shift 3
  read -r offset size < <(partition "$image" "$name")
  mkfs.ext4 -q -b 4096 -U "$uuid" \
    -E "offset=$offset,nodiscard,assume_storage_prezeroed=1" "$@" \
    "$image" $((size / 4096))
}

# make_esp IMAGE NAME VOLUME_ID GRUB_EFI: FAT32 with the loader at the
# removable path and at Debian's own.
make_esp() {
  local image=$1 volume=$3 grub=$4 offset size
  read -r offset size < <(partition "$image" "$2")
  mkfs.vfat -F 32 -s 1 -i "${volume/-/}" --offset $((offset / 512)) "$image" \
    $((size / 1024)) &>/dev/null
  mmd -i "$image@@$offset" ::EFI ::EFI/BOOT ::EFI/debian
  mcopy -i "$image@@$offset" "$grub" ::EFI/BOOT/BOOTX64.EFI
  mcopy -i "$image@@$offset" "$grub" ::EFI/debian/grubx64.efi
}

# grub_core ROOT PLATFORM BOOT_UUID PREFIX: print a core image, made with
# ROOT's own GRUB, that looks for the file system BOOT_UUID and reads
# PREFIX/grub.cfg from it.
grub_core() {
  local root=$1 platform=$2 uuid=$3 prefix=$4 work modules
  work=$(mktemp -d -p "$root/tmp")
  cat >"$work/early.cfg" <<END
search.fs_uuid $uuid root
set prefix=(\$root)$prefix
END
  modules=(part_gpt ext2 fat search search_fs_uuid normal configfile linux
    loadenv test echo serial terminal minicmd gzio reboot halt)
  [ "$platform" != i386-pc ] || modules+=(biosdisk)
  chroot "$root" grub-mkimage -O "$platform" -c "${work#"$root"}/early.cfg" \
    -p "$prefix" "${modules[@]}"
  rm -r "$work"
}

# fstab_ids TREE_TAR: print the mount point and the identifier of every file
# system in the tree's fstab; the file systems are made with these.
fstab_ids() {
  zstd -dcq "$1" | extract --to-stdout ./etc/fstab |
    sed -n 's/^UUID=\([^ ]*\) \([^ ]*\) .*/\2 \1/p'
}

little_endian() { # VALUE BYTES, as raw bytes
  local value=$1 i
  for ((i = 0; i < $2; ++i)); do
    printf "\\x$(printf %02x $((value >> (8 * i) & 255)))"
  done
}

# poke FILE OFFSET: overwrite with standard input.
poke() { dd of="$1" bs=64K seek="$2" oflag=seek_bytes conv=notrunc status=none; }

# install_bios_grub IMAGE BOOT_IMG CORE: BOOT_IMG into sector 0, CORE into
# the partition named bios_boot.  grub-install cannot do it for a disk file:
# the block lists are set by hand.  Sector 0 keeps its partition table.
install_bios_grub() {
  local image=$1 boot_img=$2 core=$3 offset size sectors
  read -r offset size < <(partition "$image" bios_boot)
  sectors=$((($(stat -c %s "$core") + 511) / 512))
  [ $((sectors * 512)) -le "$size" ] || die "bios_boot is too small"
  head -c 440 "$boot_img" | poke "$image" 0
  little_endian $((offset / 512)) 8 | poke "$image" $((0x5c))
  poke "$image" "$offset" <"$core"
  little_endian $((offset / 512 + 1)) 8 | poke "$image" $((offset + 500))
  little_endian $((sectors - 1)) 2 | poke "$image" $((offset + 508))
}

# install_grub IMAGE ROOT BOOT_UUID PREFIX ESP_VOLUME_ID
# ROOT is the mounted root file system, all of it.  The module folders and
# grub.cfg are what grub-install and update-grub of the installed Debian make.
install_grub() {
  local image=$1 root=$2 uuid=$3 prefix=$4 volume=$5 work platform
  work=$(mktemp -d)
  for platform in i386-pc x86_64-efi; do
    mkdir -p "$root/boot/grub/$platform"
    cp "$root/usr/lib/grub/$platform"/*.{mod,lst} "$root/boot/grub/$platform"
    grub_core "$root" "$platform" "$uuid" "$prefix" >"$work/$platform"
  done
  chroot "$root" grub-editenv /boot/grub/grubenv create
  update_grub "$root"
  install_bios_grub "$image" "$root/usr/lib/grub/i386-pc/boot.img" \
    "$work/i386-pc"
  make_esp "$image" esp "$volume" "$work/x86_64-efi"
  rm -r "$work"
}

# Run update-grub in ROOT with a /dev that holds the devices its file systems
# are on and their by-uuid links.  There /dev/loopN is a link: GRUB would look
# behind a device of that name and put this machine's disk file in grub.cfg.
update_grub() {
  local root=$1 device target name uuid
  mount -t tmpfs tmpfs "$root/dev"
  mkdir -p "$root/dev/disk/by-uuid"
  cp -a /dev/null /dev/zero /dev/urandom "$root/dev"
  findmnt -nro SOURCE,TARGET | while read -r device target; do
    case $device:$target in
      /dev/loop*:"$root" | /dev/loop*:"$root"/*)
        name=filesystem-${device##*/loop}
        uuid=$(blkid -p -s UUID -o value "$device")
        cp -a "$device" "$root/dev/$name"
        ln -s "$name" "$root$device"
        ln -s "../../$name" "$root/dev/disk/by-uuid/$uuid" ;;
    esac
  done
  mount -t proc proc "$root/proc"
  mount -t sysfs sysfs "$root/sys"
  chroot "$root" update-grub 2>&1 | sed 's/^/update-grub: /' >&2
  umount "$root/dev" "$root/proc" "$root/sys"
  grep -q '^[[:space:]]*linux' "$root/boot/grub/grub.cfg" ||
    die "update-grub found no kernel"
}
