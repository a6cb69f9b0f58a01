"""What every kind of soak takes and prints."""

import argparse
import json
import random
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tools.programs import BUILD, ROOT  # noqa: F401 (for the kinds)


def parser(kind, description, count):
    """The options that all kinds share; `count` is the default."""
    result = argparse.ArgumentParser(prog=f"tools/soak {kind}",
                                     description=description)
    result.add_argument("--count", type=int, default=count, metavar="N",
                        help="how many to try (default %(default)s)")
    result.add_argument("--seed", type=int, metavar="S",
                        default=random.SystemRandom().randrange(1 << 32),
                        help="do the same again (default: a new one)")
    result.add_argument("--json", metavar="FILE", help="write the figures")
    return result


@dataclass
class Report:
    """Counts of one run; `phases` holds a dictionary for each phase."""
    kind: str
    seed: int
    tried: int = 0
    failed: int = 0
    distinct: int = 0
    phases: dict = field(default_factory=dict)

    def finish(self, file):
        """Print, write to `file` if there is one; the exit code."""
        for name, counts in self.phases.items():
            line = "  ".join(f"{k} {v}" for k, v in counts.items())
            print(f"{name:24} {line}")
        print(f"tools/soak {self.kind}: tried {self.tried}, distinct "
              f"{self.distinct}, failed {self.failed}, seed {self.seed}",
              flush=True)
        if file:
            Path(file).write_text(json.dumps(vars(self), indent=2) + "\n")
        if self.failed or not self.tried:
            print(f"tools/soak {self.kind}: FAILED", file=sys.stderr)
            return 1
        return 0
