"""A disk without room, as Python, datasets, safetensors and torch tell of it."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from pathlib import Path

from bonsai.builder.schema import BonsaiError

_NUMBERS = (errno.ENOSPC, errno.EDQUOT)
_TEXT = re.compile(r"No space left on device|os error 28\b")
_TORCH = re.compile(r"inline_container\.cc|PytorchStreamWriter failed")
"""of torch.save, which does not say why a write came to nothing"""
_NOTHING = 2**20
"""bytes; with less room than this it was the room"""


class FullDiskError(BonsaiError, OSError):
    """No room is left; what was there before is untouched."""


def is_full(error: BaseException, folder: Path) -> bool:
    """Whether an error, or what caused it, is a lack of room on the disk of ``folder`` or of temporary files."""
    link: BaseException | None = error
    met: list[BaseException] = []
    while link is not None and link not in met:  # contexts may go round in a circle
        met.append(link)
        if (isinstance(link, OSError) and link.errno in _NUMBERS) or _TEXT.search(str(link)):
            return True
        if _TORCH.search(str(link)) and shutil.disk_usage(folder).free < _NOTHING:
            return True
        link = link.__cause__ or link.__context__
    return False


def sentence(folder: Path) -> str:
    """Which disks it may be."""
    temporary = Path(tempfile.gettempdir())
    same = os.stat(folder).st_dev == os.stat(temporary).st_dev
    return f"no room is left on the disk of {folder}" + (
        "" if same else f", or on that of temporary files, {temporary}"
    )
