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

# run_kind FOLDER TAKES IS [KIND ARGUMENT...]: what tools/soak and tools/bench do.
# Each tools/FOLDER/KIND.py with a main is a kind; for --help, TAKES says what all
# kinds take and IS what they are.
# Installs and builds, unless --no-build is among the arguments, and runs it.
run_kind() {
  local folder=$1 takes=$2 is=$3 name=tools/${0##*/} kinds kind build=1
  local arguments=() argument text
  shift 3
  kinds=$(grep -l '^def main' tools/"$folder"/*.py | xargs -n 1 basename -s .py)
  kind=${1:-}
  case $kind in
    --help | '' | -*)
      text="usage: $name KIND $takes [--no-build] ...

$is
Installs the Debian packages that are missing, builds, and runs one KIND:
$(paste -sd ' ' <<<"$kinds").
$name KIND --help says what it does and what else it takes.

  --no-build   the programs in build/release are current"
      if [ "$kind" = --help ]; then echo "$text"; exit 0; fi
      echo "$text" >&2
      exit 2
      ;;
  esac
  shift
  if ! grep -qx -- "$kind" <<<"$kinds"; then
    echo "$name: there is no '$kind'; there are: $(paste -sd ' ' <<<"$kinds")" >&2
    exit 2
  fi
  for argument in "$@"; do
    case $argument in
      --no-build) build= ;;
      --help) exec python3 -m "tools.$folder.$kind" --help ;;
      *) arguments+=("$argument") ;;
    esac
  done
  require_root "$name"
  if [ -n "$build" ]; then
    install_packages
    build_project
  fi
  exec python3 -m "tools.$folder.$kind" "${arguments[@]}"
}
