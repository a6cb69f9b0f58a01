"""What is done with one disk: plan; then, if plan said yes, all the way to the
target, back, and to the end.  After a yes nothing may fail."""

import fcntl
import json
import re
from contextlib import contextmanager

from tools.soaks.generated_disks.build import digests
from tools.soaks.generated_disks.disk_files import (
    copy_sparse, differing_units, digest)
from tools.soaks.generated_disks.draw import HOSTILE
from tools.soaks.generated_disks.shell import (
    AGENT, SECTOR, Failure, mounted, run)
from tools.soaks.generated_disks.stream import Model, Streamd, Target

_SPARE_CHUNKS = 40  # of a region without a guarantee: not for the target


def reason(sentence):
    """A sentence without its figures, to count refusals by."""
    text = re.sub(r"/\S+", "DISK", sentence.strip())
    text = re.sub(r"[0-9.]+ ?(GiB|MiB|KiB|bytes)?", "N", text)
    return text.removeprefix("bootagent: ")[:70]


class Journey:
    def __init__(self, case, disk, images, pool):
        self.case = case
        self.disk = disk
        self.images = images
        self.pool = pool
        self.rng = case.rng
        self.source = case.parts[case.source]
        self.before = disk.folder / "before"
        self.region = set()
        self.chunk = case.image.chunk
        self.whole_disk = False  # `before` is what it was after release
        self.marks = []  # what was done, for the report

    def agent(self, name, *options):
        return run(AGENT, name, "--disk", self.disk.path, *options)

    def image_options(self):
        options = ["--server", self.images.url, "--image",
                   self.case.image.name, "--pubkey", self.images.public_key]
        for option in self.case.plan_options:
            if option == "source":
                option = self.disk.numbers[self.case.source]
            elif option == "esp":
                esp = next(i for i, p in enumerate(self.case.parts)
                           if p.kind == "esp")
                option = self.disk.numbers[esp]
            options.append(option)
        return options

    def go(self):
        """"accepted", or why plan refused."""
        before = digest(self.disk.path)
        with self._circumstances():
            done = self.agent("plan", *self.image_options(), "--json")
        if digest(self.disk.path) != before:
            raise Failure("plan has changed the disk")
        if done.returncode:
            return self._check_refusal(done)
        if self.case.hostile:
            raise Failure(f"plan takes a disk with {self.case.hostile}")
        self.plan = json.loads(done.stdout)
        self._migrate()
        if self._phase() == "armed":
            self._use_and_go_back()
        self._forget()
        return "accepted"

    @contextmanager
    def _circumstances(self):
        what = self.case.hostile
        if what == "mounted":
            offset = self.source.first * SECTOR
            with mounted(self.disk.path, offset, self.source.count * SECTOR,
                         self.disk.folder / "mnt", "ro,noload"):
                yield
        elif what == "locked":
            with open(self.disk.path, "rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield
        else:
            yield

    def _check_refusal(self, done):
        sentences = [line for line in done.stderr.splitlines()
                     if line.startswith("bootagent: ")]
        if done.returncode not in (1, 3) or len(sentences) != 1:
            raise Failure(f"plan ends with {done.returncode}: {done.stderr}")
        words = HOSTILE.get(self.case.hostile, "")
        if words not in sentences[0]:
            raise Failure(f"a disk with {self.case.hostile} is refused "
                          f"because '{sentences[0]}'")
        if self.case.roomy:
            raise Failure(f"a disk with much room is refused: {sentences[0]}")
        return reason(sentences[0])

    def _phase(self):
        return self._status()["phase"]

    def _status(self):
        done = self.agent("status", "--json")
        if done.returncode:
            raise Failure(f"status: {done.stderr}")
        return json.loads(done.stdout)

    def _must(self, name, *options, codes=(0,)):
        done = self.agent(name, *options)
        if done.returncode not in codes:
            raise Failure(f"{name} {' '.join(map(str, options))} ends with "
                          f"{done.returncode}: {done.stderr[-1500:]}")
        return done.returncode

    def _must_migrate(self, *options, codes=(0,)):
        return self._must("migrate", "--yes", *self.image_options(),
                          "--batch-chunks", self.case.batch, "--give-up", 20,
                          *options, codes=codes)

    # --- There ---

    def _migrate(self):
        case = self.case
        copy_sparse(self.disk.path, self.before)
        if case.snapshot:
            code = self._must_migrate("--stop-at", "released", codes=(4,))
            copy_sparse(self.disk.path, self.before)
            self.whole_disk = True
            self.marks.append("snapshot")
        if case.migrate_stop:
            code = self._must_migrate("--stop-at", case.migrate_stop,
                                      codes=(0, 4))
            if code == 4:
                self.marks.append("stopped")
                self._after_stop()
                if case.after_stop == "rollback":
                    return
        self._must_migrate()
        self._learn_region()
        self._compare_with_plan()
        self._must("check")

    def _after_stop(self):
        if self.case.after_stop == "rollback":
            self.marks.append("back from a stop")
            self._learn_region()
            self._roll_back()
        elif self.case.after_stop == "source runs":
            self.marks.append("source ran")
            self._let_source_run()

    def _let_source_run(self):
        """As after somebody has pulled the plug and started the old system."""
        offset, size = self.source.first * SECTOR, self.source.count * SECTOR
        where = self.disk.folder / "mnt"
        with mounted(self.disk.path, offset, size, where):
            (where / "os-release").write_bytes(self.pool[:999])
            (where / "home/diary").unlink(missing_ok=True)
            (where / "home/new").write_bytes(self.pool[:5000])
            self.disk.files[self.case.source] = digests(where)
        self.whole_disk = False

    def _learn_region(self):
        status = self._status()
        if status["phase"] == "none":
            return
        self.region = {c for e in status["region"]
                       for c in range(e["first"], e["first"] + e["count"])}
        self.free = status["chunks"]["region_free"]
        self.guaranteed = status["guaranteed"]

    def _compare_with_plan(self):
        """What the plan has promised of the region, and how it came out."""
        account, space = self.plan["account"], self._status()["space"]
        for name, key in (("relocations", "relocation_chunks_max"),
                          ("metadata", "metadata_chunks")):
            actual = space[f"{name}_at_most"]["actual"]
            if actual > account[key]:
                raise Failure(f"{name}: {actual} chunks, planned {account[key]}")
        room = space["room_for_image_at_least"]
        if room["actual"] < room["predicted"]:
            raise Failure(f"room for the image: {room}")
        if self.guaranteed and room["actual"] < account["image_chunks"]:
            raise Failure(f"guaranteed, and room for {room['actual']} chunks of "
                          f"{account['image_chunks']}")

    # --- The target, and back ---

    def _use_and_go_back(self):
        model = Model(self.images.disk(self.case.image))
        try:
            room = None if self.guaranteed else max(
                0, (self.free - _SPARE_CHUNKS) // 2)
            target = Target(model, self.rng, self.pool, room, self.chunk)
            if self.case.use != "none":
                self._use(target)
            self._roll_back()
            if self.case.returns and self._can_return():
                self._return(target)
        finally:
            model.close()

    def _streamd(self, url, *options):
        return Streamd(self.disk.path, self.disk.folder,
                       self.images.public_key, url, *options)

    def _use(self, target):
        case = self.case
        for session in range(2):
            driver = self._streamd(self.images.url,
                                   *(["--backfill-paused"]
                                     if case.use != "complete" else []))
            try:
                client = driver.client()
                target.read_some(client, 12)
                if case.use == "everything" and target.room is None:
                    target.write_everything(client)
                if case.use not in ("reads", "none"):
                    target.write_some(client, 40)
                target.read_some(client, 12)
                if session or case.use in ("writes", "complete"):
                    target.read_all(client, "session")
                target.flush(client)
                if case.use == "complete":
                    driver.wait_complete()
                client.close()
            except BaseException:
                driver.kill()
                raise
            driver.kill() if case.kill else driver.stop()
        if case.use == "complete":
            self._read_without_server(target)
        self._must("check")
        self.marks.append("used")

    def _read_without_server(self, target):
        driver = self._streamd("http://127.0.0.1:1")
        try:
            client = driver.client()
            target.read_all(client, "without a server")
            client.close()
        except BaseException:
            driver.kill()
            raise
        driver.stop()

    def _roll_back(self):
        case = self.case
        if case.rollback_stop:
            code = self._must("rollback", "--yes", "--batch-chunks",
                              case.batch, "--stop-at", case.rollback_stop,
                              codes=(0, 4))
            if code == 4:
                self.marks.append("rollback stopped")
                self._must("rollback", "--yes", "--batch-chunks", case.batch)
        else:
            self._must("rollback", "--yes", "--batch-chunks", case.batch)
        self._expect_source("after roll-back", self.region)

    def _can_return(self):
        return "\n  return " in run(AGENT, "--help").stdout

    def _return(self, target):
        """The parked target comes back with all that it wrote, even if the
        old system has run in between."""
        case = self.case
        if case.return_after == "source runs":
            self._let_source_run()
            self.marks.append("source ran while parked")
        copy_sparse(self.disk.path, self.before)
        self.whole_disk = False
        options = ["--yes", "--server", self.images.url, "--batch-chunks",
                   case.batch]
        if case.return_stop:
            if self._must("return", *options, "--stop-at", case.return_stop,
                          codes=(0, 4)) == 4:
                self.marks.append("return stopped")
                if case.return_after == "rollback":
                    self._learn_region()
                    self._roll_back()
                    self.marks.append("back from a stopped return")
        self._must("return", *options)
        self._learn_region()
        self._must("check")
        driver = self._streamd(self.images.url)
        try:
            client = driver.client()
            target.read_all(client, "after return")
            if case.use != "reads":
                target.write_some(client, 10)
            target.flush(client)
            client.close()
        except BaseException:
            driver.kill()
            raise
        driver.stop()
        self.marks.append("returned")
        self._roll_back()

    def _forget(self):
        self._must("forget", "--yes")
        if self._phase() != "none":
            raise Failure(f"phase {self._phase()} after forget")
        self.whole_disk = False
        self._expect_source("after forget", self.region)

    # --- What must be so ---

    def _expect_source(self, told, region):
        differing = differing_units(self.disk.path, self.before, SECTOR)
        per_chunk = self.chunk // SECTOR
        source = range(self.source.first, self.source.first + self.source.count)
        for sector in differing:
            if sector // per_chunk in region:
                continue
            if self.whole_disk or sector not in source:
                raise Failure(f"{told}: sector {sector} of the source's disk "
                              f"is not what it was")
        where = self.disk.folder / "mnt"
        for index, files in self.disk.files.items():
            part = self.case.parts[index]
            offset, size = part.first * SECTOR, part.count * SECTOR
            done = run("e2fsck", "-fn", f"{self.disk.path}?offset={offset}")
            if done.returncode:
                raise Failure(f"{told}: fsck of partition "
                              f"{self.disk.numbers[index]}: {done.stdout}")
            with mounted(self.disk.path, offset, size, where, "ro,noload"):
                if digests(where) != files:
                    raise Failure(f"{told}: the files of partition "
                                  f"{self.disk.numbers[index]} differ")
