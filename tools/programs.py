"""Where our programs are."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD = Path(os.environ.get("BUILD_DIR", ROOT / "build/release"))
AGENT = BUILD / "bootagent/bootagent"
IMGTOOL = BUILD / "imgserver/imgtool"
IMGSERVER = BUILD / "imgserver/imgserver"
STREAMD = BUILD / "initramfs/streamd"
STREAMD_UNVERIFIED = BUILD / "tests/streamd_unverified"
STREAMCTL = BUILD / "initramfs/streamctl"
