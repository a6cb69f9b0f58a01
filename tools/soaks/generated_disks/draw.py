"""Draws one case from its seed: a disk, an image, and what is done to them.
Nothing is made here."""

import random
from dataclasses import dataclass, field

from tools.soaks.generated_disks.images import LAYOUTS, UNUSABLE
from tools.soaks.generated_disks.shell import KIB, MIB, SECTOR

# What a file system or a disk may have that must lead to a refusal, and words
# of the sentence that says so.
HOSTILE = {
    "luks": "crypto_LUKS",
    "lvm": "LVM2_member",
    "xfs": "xfs",
    "btrfs": "btrfs",
    "ntfs": "ntfs",
    "hibernated": "hibernated",
    # An encrypted volume beside anything else is taken for encrypted.
    "two-signatures": "crypto_LUKS",
    "unclean": "not unmounted in order",
    "errors": "not unmounted in order",
    "orphans": "not unmounted in order",
    "read-only-feature": "read-only",
    "external-journal": "journal",
    "immutable-root": "root directory",
    "region-is-a-directory": ".bootstream-region",
    "region-is-a-link": ".bootstream-region",
    "region-is-immutable": ".bootstream-region",
    "no-inode": "inode",
    "backup-gpt-damaged": "artition table",
    "primary-gpt-damaged": "artition table",
    "partition-beyond-disk": "artition table",
    "mounted": "in use",
    "locked": "in use",
    "no-such-partition": "no partition",
    "region-on-vfat": "no ext4",
    "too-full": "missing",
    "headroom-default": "missing",
    "smaller": "larger than the disk",
    "huge-image": "larger than the disk",
    "boot-in-root": "/boot lies in",
    "no-table": "no partition table",
}
# Those that only a GPT can have, and those that need another partition.
GPT_ONLY = {"backup-gpt-damaged", "primary-gpt-damaged"}
MBR_ONLY = {"partition-beyond-disk"}
OTHER_PARTITION = {"luks", "lvm", "xfs", "btrfs", "ntfs", "hibernated",
                   "two-signatures", "region-on-vfat"}

MIGRATE_STOPS = (
    "released", "staged-written", "staged-recorded", "staged",
    "relocate-copied", "relocate-recorded", "relocated", "source-stub",
    "source-invalid", "source-invalid:2", "stubbed", "anchor", "home-copied",
    "home-recorded", "tables-around", "written", "table", "table:2", "table:4",
    "tables-recorded")
# Up to here the source may run in between.
BEFORE_STUB = MIGRATE_STOPS[:7]
ROLLBACK_STOPS = (
    "rolling-back", "target-stub", "target-invalid", "exchange-target-copied",
    "exchange-target-recorded", "exchange-source-copied",
    "exchange-source-recorded", "exchange-source-recorded:2", "anchor-cleared",
    "anchor-chunk-copied", "anchor-chunk-recorded", "around-tables-copied",
    "parked", "source-table", "source-table:2", "relocations-forgotten")
RETURN_STOPS = (
    "released", "staged", "relocate-copied", "relocate-recorded", "relocated",
    "source-stub", "source-invalid", "stubbed", "anchor", "home-copied",
    "home-recorded", "exchange-away-copied", "exchange-away-recorded",
    "exchange-home-copied", "exchange-home-recorded", "tables-around",
    "written", "table", "table:3", "tables-recorded")


@dataclass
class Part:
    """A partition; first and count in sectors."""
    kind: str
    first: int
    count: int
    logical: bool = False


@dataclass
class Case:
    number: int
    rng: random.Random
    image: object = None
    hostile: str = ""
    table: str = "gpt"
    relation: str = "larger"  # the disk against the image
    size: int = 0
    parts: list = field(default_factory=list)
    source: int = 0  # index of the part that gives the space
    make_options: list = field(default_factory=list)
    features: list = field(default_factory=list)  # names, for the report
    block: int = 4096
    fullness: float = 0.0
    fragments: str = "none"
    noise: bool = False  # random bytes outside the partitions
    plan_options: list = field(default_factory=list)
    batch: int = 64
    use: str = "reads"
    kill: bool = False
    migrate_stop: str = ""
    rollback_stop: str = ""
    after_stop: str = "migrate"
    snapshot: bool = True
    returns: bool = False
    return_stop: str = ""
    return_after: str = "return"
    # The source has a region file that was left unfinished, with a hole.
    old_region: bool = False
    # There is so much room that a refusal would be a failure too.
    roomy: bool = False

    def describe(self):
        source = self.parts[self.source] if self.parts else None
        return (f"case {self.number}: {self.image.name} on {self.table}, "
                f"{self.relation}, {self.size} bytes, source "
                f"{source.kind if source else 'none'} {self.block} "
                f"{','.join(self.features) or 'plain'}, full "
                f"{self.fullness:.2f}, {self.fragments}, "
                f"{self.hostile or 'friendly'}, "
                f"{'old region, ' if self.old_region else ''}"
                f"{' '.join(map(str, self.plan_options))}, "
                f"use {self.use}, stops {self.migrate_stop or '-'} "
                f"{self.rollback_stop or '-'}")


def draw(seed, number):
    case = Case(number, random.Random(f"{seed}/{number}"))
    rng = case.rng
    case.image = rng.choice([i for i in LAYOUTS if i.name not in UNUSABLE])
    if rng.random() < 0.2:
        case.hostile = rng.choice(sorted(HOSTILE))
    for image in LAYOUTS:
        if UNUSABLE.get(image.name) == case.hostile:
            case.image = image
    case.table = rng.choices(["gpt", "dos"], [60, 40])[0]
    if case.hostile in GPT_ONLY:
        case.table = "gpt"
    if case.hostile in MBR_ONLY:
        case.table = "dos"
    _draw_size(case)
    _draw_parts(case)
    _draw_file_system(case)
    _draw_plan(case)
    _draw_journey(case)
    other = random.Random(f"{seed}/{number}/old region")
    case.old_region = not case.hostile and other.random() < 0.05
    return case


def _draw_size(case):
    rng, image = case.rng, case.image.size
    case.relation = rng.choices(["equal", "little larger", "larger"],
                                [12, 13, 75])[0]
    if case.hostile == "smaller":
        case.relation = "smaller"
    elif case.hostile == "huge-image":
        case.relation = "much smaller"
    elif case.hostile or case.image.name == "logical":
        case.relation = "larger"
    case.size = {
        "equal": image,
        "little larger": image + rng.randrange(1, 2048) * SECTOR,
        "larger": int(image * rng.uniform(1.6, 3.2)) // SECTOR * SECTOR,
        "much smaller": 160 * MIB,
        "smaller": image - rng.randrange(1, 4096) * SECTOR,
    }[case.relation]
    if rng.random() < 0.3:
        case.size = case.size // (4 * KIB) * (4 * KIB)
        if case.relation in ("equal", "little larger"):
            case.size = max(case.size, image)


def _partition_kinds(case):
    """In the order on the disk; the first "source" is the one that is meant."""
    rng = case.rng
    kinds = ["source"]
    others = rng.choices([0, 1, 2], [35, 45, 20])[0]
    choices = ["esp", "swap", "second-ext4", "ext3", "ext2", "raw", "empty"]
    if case.relation in ("equal", "little larger"):
        choices = ["esp", "swap", "raw"]
    for _ in range(others):
        kinds.insert(rng.randrange(len(kinds) + 1), rng.choice(choices))
    if case.hostile in OTHER_PARTITION:
        kind = "esp" if case.hostile == "region-on-vfat" else case.hostile
        kinds.insert(rng.randrange(len(kinds) + 1), kind)
    return kinds


_SMALL_MIB = {"esp": 3, "swap": 2, "second-ext4": 12, "ext3": 12, "ext2": 6,
              "raw": 1, "empty": 1, "luks": 4, "lvm": 4, "xfs": 16,
              "btrfs": 16, "ntfs": 4, "hibernated": 2, "two-signatures": 4}
_BIG_MIB = {"xfs": 304, "btrfs": 112}


def _draw_parts(case):
    if case.hostile == "no-table":
        case.table = "none"
        case.parts = [Part("source", 0, case.size // SECTOR)]
        return
    rng = case.rng
    kinds = _partition_kinds(case)
    small = {k: _BIG_MIB.get(k, _SMALL_MIB.get(k, 0)) for k in kinds}
    case.size += sum(_BIG_MIB.get(k, 0) for k in kinds) * MIB
    logical_from = len(kinds)
    if case.table == "dos" and (len(kinds) > 3 or rng.random() < 0.4):
        logical_from = rng.randrange(min(len(kinds), 3))
    end = case.size // SECTOR - (34 if case.table == "gpt" else 0)
    odd = rng.random() < 0.5
    at = rng.randrange(34, 2100) if odd else 2048
    spare = sum(small[k] for k in kinds) * MIB // SECTOR
    for index, kind in enumerate(kinds):
        if index >= logical_from:
            at += rng.randrange(1, 70) if odd else 2048
        count = small[kind] * MIB // SECTOR
        if kind == "source":
            left = end - at - spare - 2200 * (len(kinds) - index)
            count = left - (rng.randrange(900) if odd else left % 8)
        else:
            spare -= count
        case.parts.append(Part(kind, at, count, index >= logical_from))
        if kind == "source":
            case.source = index
        at += count
        gap = rng.choice([0, 0, rng.randrange(2000)])
        at += gap if odd else (gap + 7) // 8 * 8
    case.noise = rng.random() < 0.5


def _draw_file_system(case):
    rng = case.rng
    case.block = rng.choices([1024, 2048, 4096], [25, 15, 60])[0]
    options = ["-b", case.block]
    on_off = []

    def toggle(name, off_chance=0.0, on_chance=0.0):
        if rng.random() < off_chance:
            on_off.append("^" + name)
        elif rng.random() < on_chance:
            on_off.append(name)

    toggle("64bit", off_chance=0.25)
    toggle("has_journal", off_chance=0.15)
    toggle("metadata_csum", off_chance=0.25)
    toggle("inline_data", on_chance=0.15)
    toggle("flex_bg", off_chance=0.15)
    toggle("ea_inode", on_chance=0.1)
    toggle("large_dir", on_chance=0.1)
    toggle("huge_file", off_chance=0.1)
    if case.hostile == "external-journal":
        on_off = [f for f in on_off if "journal" not in f]
    if rng.random() < 0.12:
        on_off += ["^resize_inode", rng.choice(["meta_bg", "sparse_super2"])]
    elif rng.random() < 0.12:
        on_off.append("bigalloc")
        options += ["-C", case.block * rng.choice([4, 16])]
    if "^metadata_csum" in on_off and rng.random() < 0.5:
        on_off.append("uninit_bg")
    if rng.random() < 0.2:
        options += ["-g", 8 * case.block // rng.choice([1, 2, 4])]
        if "bigalloc" in on_off:
            options = options[:-2]
    if rng.random() < 0.3:
        options += ["-m", rng.choice([0, 1, 10])]
    if on_off:
        options += ["-O", ",".join(on_off)]
    case.make_options = options
    case.features = [f for f in on_off]


def _draw_plan(case):
    rng = case.rng
    tight = case.relation in ("equal", "little larger")
    case.fullness = rng.choice([0.0, rng.uniform(0, 0.25)])
    case.fragments = rng.choices(
        ["none", "files", "fine", "checkers"], [45, 30, 15, 10])[0]
    if tight:
        case.fragments = rng.choice(["none", "files"])
    room = case.size - case.size * case.fullness
    case.roomy = (not case.hostile and not tight and
                  case.fragments == "none" and
                  room > 1.7 * case.image.size + 40 * MIB)
    headroom = rng.choice([0, 1, 4, rng.randrange(16)]) * MIB
    case.plan_options = ["--headroom", headroom]
    if case.hostile == "headroom-default":
        case.plan_options = []
    if case.hostile == "too-full":
        case.fullness = 0.97
        case.fragments = "none"
    policy = rng.choice(["block", "give-up-source"])
    if tight or rng.random() < 0.35:
        case.plan_options += ["--when-full", policy]
    named = "source" if rng.random() < 0.3 else ""
    named = {"no-such-partition": 97,
             "region-on-vfat": "esp"}.get(case.hostile, named)
    if named and case.table != "none":
        case.plan_options += ["--region", named]


def _draw_journey(case):
    rng = case.rng
    case.batch = rng.choice([1, 3, 16, 64, 64])
    case.use = rng.choices(["none", "reads", "writes", "everything",
                            "complete"], [8, 22, 40, 10, 20])[0]
    case.kill = rng.random() < 0.4
    case.snapshot = rng.random() < 0.6
    if rng.random() < 0.3:
        case.migrate_stop = rng.choice(MIGRATE_STOPS)
        case.after_stop = rng.choices(["migrate", "rollback", "source runs"],
                                      [50, 20, 30])[0]
        if (case.after_stop == "source runs" and
                case.migrate_stop not in BEFORE_STUB):
            case.after_stop = "migrate"
    if rng.random() < 0.3:
        case.rollback_stop = rng.choice(ROLLBACK_STOPS)
    case.returns = rng.random() < 0.3
    if case.returns and rng.random() < 0.5:
        case.return_stop = rng.choice(RETURN_STOPS)
    case.return_after = rng.choice(["return", "return", "rollback",
                                    "source runs"])
