"""One case of each phase."""

from .going import Boot, Migrate, Return, Rollback, Stream
from .leaving import Commit, Detach, Grow, Settle

CASES = {case.phase: case for case in (
    Migrate, Boot, Stream, Rollback, Return, Commit, Settle, Detach, Grow)}
