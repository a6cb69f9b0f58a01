"""What runs in the target: load with known content, and a check of it."""

import re

# A line "SYNCED ..." comes when what it speaks of must survive.  No path and
# no block is written twice, so a line that the cut has swallowed misleads
# nobody.
FUNCTIONS = r"""
set -u
mkdir -p /root/load
fill() { head -c "$1" /dev/urandom >/run/load; }
sum() { sha256sum <"$1" | cut -d' ' -f1; }
new() {
  fill "$2"
  dd if=/run/load of="$1" bs=64k conv=fsync status=none && sync /root/load &&
    echo "SYNCED file $1 $(sum /run/load)"
}
over() {
  fill "$3"
  dd if=/run/load of="$1" bs="$3" seek="$2" oflag=seek_bytes \
    conv=notrunc,fsync status=none && echo "SYNCED file $1 $(sum "$1")"
}
block() {
  fill 4096
  dd if=/run/load of=/root/load/blocks bs=4k seek="$1" oflag=direct,dsync \
    conv=notrunc status=none && echo "SYNCED block $1 $(sum /run/load)"
}
gone() {
  head -c "$1" /dev/urandom >/root/load/gone
  sync /root/load/gone
  rm /root/load/gone
}
"""

TROUBLE = (r"EXT4-fs error|EXT4-fs .*corrupt|I/O error, dev (nbd|dm|vd)|"
           r"Buffer I/O error on dev (nbd|dm|vd)|Aborting journal")

VERIFY = r"""
bad=
sha256sum --quiet -c <<'END' || bad=1
@FILES@
END
while read -r number sum; do
  [ -n "$number" ] || continue
  found=$(dd if=/root/load/blocks bs=4k skip="$number" count=1 status=none |
    sha256sum)
  [ "${found%% *}" = "$sum" ] || { echo "block $number differs"; bad=1; }
done <<'END'
@BLOCKS@
END
dmesg | grep -E '@TROUBLE@' && bad=1
grep -q 'write back' /sys/block/vda/queue/write_cache ||
  { echo "the disk shows no cache"; bad=1; }
[ -z "$bad" ]
"""

# Files of the image that may be overwritten; none of them runs.
VICTIMS = re.compile(r"/usr/share/(doc|locale|man|i18n)/")


def victims(listing):
    """(path, bytes) from the lines of tools/images/list-files."""
    found = {}
    for line in listing.splitlines():
        _, _, size, digest, path = line.split("\t")
        if VICTIMS.match(path) and 32768 <= int(size) <= 2 << 20 and \
                re.fullmatch(r"[\w./@+-]+", path):
            # Of the names of one file only one.
            found.setdefault(digest, (path, int(size)))
    return list(found.values())


class Load:
    """Of one case: several sessions, and what they have said is durable."""

    def __init__(self, random, files):
        self._random = random
        self._files = list(files)
        random.shuffle(self._files)
        self._session = 0
        self._block = 0
        self._said = {}

    @staticmethod
    def script(*lines):
        """That does all of them, and says when it is done."""
        return FUNCTIONS + "\n".join([*lines, "echo LOAD-DONE"]) + "\n"

    def lines(self, rounds):
        """Of a script, for the next session."""
        r = self._random
        self._session += 1
        lines = []
        for i in range(rounds):
            what = r.choice(("new", "new", "over", "over", "block", "block",
                             "gone", "read"))
            if i == rounds // 2:
                lines.append(f"fstrim -o {r.randrange(2048)}M -l 256M / || :")
            if what == "new":
                size = r.choice((100, 5000, 40000, 200000, 600000))
                lines.append(f"new /root/load/{self._session}.{i} "
                             f"{size + r.randrange(size)}")
            elif what == "over":
                path, size = self._files.pop()
                length = r.choice((512, 4096, 10000, 30000))
                lines.append(f"over {path} {r.randrange(size - length)} "
                             f"{length}")
            elif what == "block":
                # Scattered; 97 and 4096 have no common divisor.
                lines.append(f"block {self._block * 97 % 4096}")
                self._block += 1
            elif what == "gone":
                lines.append(f"gone {r.choice((30000, 1000000))}")
            else:
                lines.append(f"cat {self._files.pop()[0]} >/dev/null")
        return lines

    def heard(self, text):
        """Take up what the console has shown."""
        for what, name, digest in re.findall(
                r"^SYNCED (file|block) (\S+) ([0-9a-f]{64})$", text,
                re.MULTILINE):
            self._said[what, name] = digest

    def __len__(self):
        return len(self._said)

    def expected(self):
        """{path: [(first byte, size or -1, digest), ...]}"""
        files = {}
        for (what, name), digest in self._said.items():
            if what == "file":
                files[name] = [(0, -1, digest)]
            else:
                files.setdefault("/root/load/blocks", []).append(
                    (int(name) * 4096, 4096, digest))
        return files

    def verify_script(self):
        files = [f"{digest}  {name}" for (what, name), digest
                 in self._said.items() if what == "file"]
        blocks = [f"{name} {digest}" for (what, name), digest
                  in self._said.items() if what == "block"]
        # sha256sum wants one line at least.
        empty = ("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852"
                 "b855  /dev/null")
        return VERIFY.replace("@FILES@", "\n".join(files or [empty])).replace(
            "@BLOCKS@", "\n".join(blocks)).replace("@TROUBLE@", TROUBLE)
