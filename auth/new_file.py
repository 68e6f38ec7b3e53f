"""Files that several processes may try to make at the same instant."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Give an empty draft (mode 0600) that becomes `path` after the block, whole or not at all.

    When another process was first, its file stays and the draft is thrown away. Raises OSError.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        yield draft
        with draft.open("rb") as file:
            os.fsync(file.fileno())  # or a power cut could leave the name without the content
        with suppress(FileExistsError):
            path.hardlink_to(draft)  # unlike a rename, it never replaces
    finally:
        draft.unlink()
