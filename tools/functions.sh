# Sourced by the scripts of this folder.

# require_root NAME: stop with a sentence unless we are root.
require_root() {
  if [ "$(id -u)" -ne 0 ]; then
    echo "$1: must run as root (it installs packages, mounts loop devices and" \
      "starts virtual machines): try 'sudo $0'" >&2
    exit 1
  fi
}

# install_packages: what tools/packages lists and this machine lacks.
install_packages() {
  local list missing=() name
  list=$(grep -v '^#' "$(dirname "${BASH_SOURCE[0]}")/packages")
  for name in $list; do
    dpkg-query -W -f '${Status}' "$name" 2>/dev/null |
      grep -q 'install ok installed' || missing+=("$name")
  done
  [ "${#missing[@]}" -eq 0 ] && return 0
  echo "installing ${#missing[@]} packages: ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# build_project: configure and build everything in build/release.
build_project() {
  cmake --preset release >/dev/null
  cmake --build --preset release
}
