# What all the image makers share; sourced, not run.

set -euo pipefail
shopt -s inherit_errexit
export LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin

readonly IMAGES_DIR=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
CACHE_DIR=/dev/shm/bootstream-cache

die() {
  echo "${0##*/}: $*" >&2
  exit 1
}

usage_error() {
  echo "${0##*/}: $* (try --help)" >&2
  exit 2
}

note() { echo "${0##*/}: $*" >&2; }

# need_value OPTION [VALUE]...
need_value() { [ $# -gt 1 ] || usage_error "$1 needs a value"; }

# Print the comment block at the top of the calling script.
show_help() {
  sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "$0"
  exit 0
}

# Run the calling script again, in a mount namespace of its own.
private_mounts() {
  [ "$(id -u)" = 0 ] || die "must be root"
  [ "${BOOTSTREAM_PRIVATE_MOUNTS:-}" = 1 ] && return
  BOOTSTREAM_PRIVATE_MOUNTS=1 exec unshare --mount --propagation private \
    "$0" "$@"
}

# cached_tree NAME KEY COMMAND...
# Print the path of a zstd tar with what COMMAND writes to its standard
# output.  COMMAND runs only when no tar for KEY is in the cache; two makers
# with the same key wait for each other.  Of each NAME the newest three stay.
cached_tree() {
  local name=$1 key=$2 tar
  shift 2
  key=$(sha256sum <<<"$key" | cut -c1-16)
  mkdir -p "$CACHE_DIR"
  tar=$CACHE_DIR/$name-$key.tar.zst
  (
    flock 9
    if [ ! -e "$tar" ]; then
      note "making $tar"
      trap 'rm -f "$tar.new"' EXIT
      TMPDIR=$CACHE_DIR "$@" | zstd -1 -T0 -q -o "$tar.new" -f
      mv "$tar.new" "$tar"
      ls -t "$CACHE_DIR/$name"-*.tar.zst | tail -n +4 | xargs -r rm --
    fi
  ) 9>"$tar.lock"
  echo "$tar"
}

# digest_of FILE...: of the contents, whatever the names.
digest_of() { cat "$@" | sha256sum; }

# extract [TAR OPTIONS...]: from standard input, read to its very end.  tar stops
# at the archive's end mark, and whoever still writes the padding behind it
# would die of SIGPIPE.
extract() { tar --extract "$@" && cat >/dev/null; }

# untar TAR DIRECTORY
untar() {
  zstd -dcq "$1" | extract --numeric-owner --xattrs --xattrs-include='*' \
    --directory "$2"
}

# tar_of DIRECTORY: to standard output.
tar_of() {
  tar --create --numeric-owner --xattrs --xattrs-include='*' \
    --directory "$1" .
}

# bootstrap RELEASE VARIANT PACKAGES [MMDEBSTRAP OPTIONS...]
# Write a tar of a Debian tree to standard output.  No initramfs is made
# (INITRD=No): that is the last step of whoever customizes the tree.
bootstrap() {
  local release=$1 variant=$2 packages=$3
  shift 3
  INITRD=No mmdebstrap --quiet --mode=root --variant="$variant" \
    --include="$packages" \
    --essential-hook='echo man-db man-db/auto-update boolean false |
      chroot "$1" debconf-set-selections' \
    "$@" "$release" -
}

# hook SCRIPT ARGUMENTS...: a customize hook for bootstrap that runs a script
# of this folder with the tree as its first argument.
hook() {
  local script=$1
  shift
  printf '%q "$1"' "$IMAGES_DIR/$script"
  [ $# = 0 ] || printf ' %q' "$@"
}
