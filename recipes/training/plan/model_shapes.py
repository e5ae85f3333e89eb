"""Look up the sizes of a base model: from its config.json, or from what is known without a download.

``bases.toml`` holds what is known, and its sources.

    lookup_base("microsoft/phi-2").shape.parameters()       # 2.78 billion
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from bonsai.builder.assets import load_table
from bonsai.builder.token_counts import Vocabulary
from bonsai.recipes.training.recipe import RecipeError


class UnknownBaseError(RecipeError):
    """The sizes of a base model are unknown."""


Kind = Literal["phi", "phi3", "llama", "phi3small"]
"""whose modelling code the layers run, as transformers' model_type spells it"""


class Linear(NamedTuple):
    """One linear of a layer."""

    name: str
    columns: int
    """in_features"""
    rows: int
    """out_features"""
    reads: str
    """its input; linears with the same one are computed as a group"""

    @property
    def weights(self) -> int:
        """Weights without the bias."""
        return self.rows * self.columns


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """A base model's sizes, by their names in config.json."""

    kind: Kind
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    tie_word_embeddings: bool = False
    partial_rotary_factor: float = 1.0
    resid_pdrop: float = 0.0
    max_position_embeddings: int = 4096

    @property
    def query_width(self) -> int:
        """Numbers of q, and of the attention's output, a token."""
        return self.num_attention_heads * self.head_dim

    @property
    def key_width(self) -> int:
        """Numbers of k, and of v, a token."""
        return self.num_key_value_heads * self.head_dim

    def linears(self) -> tuple[Linear, ...]:
        """Return the quantised linears of one layer."""
        hidden, inner, q, kv = self.hidden_size, self.intermediate_size, self.query_width, self.key_width
        if self.kind == "phi":  # attention and MLP read the same norm
            return (
                Linear("q_proj", hidden, q, "norm"),
                Linear("k_proj", hidden, kv, "norm"),
                Linear("v_proj", hidden, kv, "norm"),
                Linear("dense", q, hidden, "attention"),
                Linear("fc1", hidden, inner, "norm"),
                Linear("fc2", inner, hidden, "activation"),
            )
        if self.kind == "llama":
            return (
                Linear("q_proj", hidden, q, "norm"),
                Linear("k_proj", hidden, kv, "norm"),
                Linear("v_proj", hidden, kv, "norm"),
                Linear("o_proj", q, hidden, "attention"),
                Linear("gate_proj", hidden, inner, "second norm"),
                Linear("up_proj", hidden, inner, "second norm"),
                Linear("down_proj", inner, hidden, "activation"),
            )
        names = _JOINED[self.kind]
        return (
            Linear(names[0], hidden, q + 2 * kv, "norm"),
            Linear(names[1], q, hidden, "attention"),
            Linear(names[2], hidden, 2 * inner, "second norm"),
            Linear(names[3], inner, hidden, "activation"),
        )

    def layer_weights(self) -> int:
        """Count the quantised weights of one layer."""
        return sum(linear.weights for linear in self.linears())

    def parameters(self) -> int:
        """Count the weights of linears, embedding and head; norms and biases are a thousandth of them."""
        embeddings = self.vocab_size * self.hidden_size * (1 if self.tie_word_embeddings else 2)
        return self.num_hidden_layers * self.layer_weights() + embeddings

    def adapter_weights(self, r: int, target_modules: tuple[str, ...] | Literal["all-linear"]) -> int:
        """Count the trained weights of a LoRA of rank ``r``: r · (in + out) a linear.

        Raises:
            RecipeError: a layer of this kind has no such linear.
        """
        names = {linear.name for linear in self.linears()}
        wanted = names if isinstance(target_modules, str) else set(target_modules)
        if wanted - names:
            raise RecipeError(
                f"target_modules has {', '.join(sorted(wanted - names))}; a layer of this base has "
                f"{', '.join(sorted(names))}"
            )
        per_layer = sum(r * (linear.rows + linear.columns) for linear in self.linears() if linear.name in wanted)
        return per_layer * self.num_hidden_layers


_JOINED = {
    "phi3": ("qkv_proj", "o_proj", "gate_up_proj", "down_proj"),
    "phi3small": ("query_key_value", "dense", "up_proj", "down_proj"),
}


class KnownBase(NamedTuple):
    """A base model whose sizes need no download."""

    shape: ModelShape
    vocabulary: Vocabulary
    """what its tokens are counted with"""
    counts_are_its_own: bool


_TABLES = load_table(__package__, "bases.toml")
SHAPES = {name: ModelShape(**sizes) for name, sizes in _TABLES["shapes"].items()}
KNOWN = {
    name: KnownBase(SHAPES[base["shape"]], base["vocabulary"], base["counts_are_its_own"])
    for name, base in _TABLES["bases"].items()
}
UNSUPPORTED_BASES: Mapping[str, Sequence[str]] = _TABLES["unsupported"]
"""bases that no setting makes trainable here, and why"""


def lookup_base(name: str, revision: str | None = None) -> KnownBase:
    """Look up the sizes of a base model: a folder with config.json, a known id, or the Hub's cache; download nothing.

    Raises:
        UnknownBaseError: none of these; the message names what is missing.
    """
    if (Path(name) / "config.json").is_file():
        return KnownBase(shape_of(_read(Path(name) / "config.json"), name), "gpt2", False)
    if name in KNOWN:
        return KNOWN[name]
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(name, "config.json", revision=revision)
    if isinstance(cached, str):
        return KnownBase(shape_of(_read(Path(cached)), name), "gpt2", False)
    raise UnknownBaseError(
        f"{name}: nothing is known of its sizes, so neither memory nor time can be estimated; missing is its "
        f"config.json (a few kB): run `hf download {name} config.json{f' --revision {revision}' if revision else ''}`, "
        f"or name a folder that has one. Known without it: {', '.join(KNOWN)}"
    )


def _read(path: Path) -> Mapping[str, Any]:
    found = json.loads(path.read_text(encoding="utf-8"))
    return found if isinstance(found, dict) else {}


def shape_of(config: Mapping[str, Any], name: str) -> ModelShape:
    """Read the sizes out of a config.json.

    Raises:
        UnknownBaseError: the architecture is none of those counted here, or a size is missing.
    """
    kind = config.get("model_type")
    if kind not in ("phi", "phi3", "llama"):
        raise UnknownBaseError(
            f"{name}: model_type is {kind!r}; memory is counted for phi, phi3 and llama layers only: measure with "
            "`--max-steps 2` instead"
        )
    needed = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
    missing = [field for field in needed if not isinstance(config.get(field), int)]
    if missing:
        raise UnknownBaseError(
            f"{name}: its config.json lacks {', '.join(missing)}; without them memory cannot be estimated"
        )
    heads = config["num_attention_heads"]
    rope = config.get("rope_parameters") or {}
    return ModelShape(
        kind=kind,
        **{field: config[field] for field in needed},
        num_key_value_heads=config.get("num_key_value_heads") or heads,
        head_dim=config.get("head_dim") or config["hidden_size"] // heads,
        tie_word_embeddings=bool(config.get("tie_word_embeddings", False)),
        partial_rotary_factor=config.get("partial_rotary_factor", rope.get("partial_rotary_factor", 1.0)),
        resid_pdrop=float(config.get("resid_pdrop", 0.0)),
        max_position_embeddings=int(config.get("max_position_embeddings", 4096)),
    )
