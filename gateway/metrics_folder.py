"""The folder in which the workers of one gateway keep their figures: made before them, removed after the last.

The supervisor, too, imports this: nothing but the standard library.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client's


def open_folder() -> None:
    """Make a fresh folder for the figures of the processes that will be started."""
    import tempfile  # here, as it is `passerelle gateway` that needs it, and not the supervisor that it becomes

    os.environ[VARIABLE] = tempfile.mkdtemp(prefix="passerelle-metrics-")


def remove_folder() -> None:
    """Remove it: all of them have ended. Nothing to do where there is none."""
    if VARIABLE in os.environ:
        import shutil  # at the very end: it brings all compressors, and the supervisor is small

        shutil.rmtree(os.environ.pop(VARIABLE), ignore_errors=True)


def shared() -> Path | None:
    """The folder of this worker's figures; None where it shows its own alone."""
    return Path(os.environ[VARIABLE]) if VARIABLE in os.environ else None
