"""Which split a group belongs to: by a hash, so that a record once held out stays held out as the dataset grows.

The hash is of the group (of the whole chain for question_to_question), so parallel texts and the steps of one chain
never straddle a split. The category goes into the hash: each category is cut by itself.
"""

from __future__ import annotations

import hashlib
from typing import Literal

from bonsai.builder.schema import TextGroup, TranslationGroup

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
TEST_SHARE = 0.10
VALIDATION_SHARE = 0.10


def split_of(group: TextGroup | TranslationGroup) -> Split:
    """The split of a group; depends on nothing but its category and its id (or its chain's)."""
    chain = group.chain.id if isinstance(group, TextGroup) and group.chain else group.id
    digest = hashlib.sha256(f"bonsai/{group.category}/{chain}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < TEST_SHARE:
        return "test"
    return "validation" if place < TEST_SHARE + VALIDATION_SHARE else "train"
