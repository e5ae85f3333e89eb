"""Open models by name; models that share a base share it in memory."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bonsai.recipes.inference.generation import Engine, GenerationError, GenerationRequest, OnCompletion
from bonsai.recipes.inference.model_source import (
    MODEL,
    EndpointSource,
    GgufSource,
    HubModelSource,
    ProviderSource,
    cached_file,
    hub_is_reachable,
    resolve_model,
)

if TYPE_CHECKING:
    from bonsai.recipes.inference.transformers_engine import TransformersEngine


OUT = Path("out")
DTYPES = ("float32", "float16", "bfloat16")
"""that transformers models can compute in; the shorter ones halve the memory and change the texts a little"""


class SharedBase:
    """A base model that stays loaded while adapters are added to it."""

    def __init__(self, base: TransformersEngine) -> None:
        self._base = base
        self._adapters: dict[Path, str] = {}
        self._lock = threading.Lock()
        """the active adapter is a state of the model, so one engine generates at a time"""

    def engine(self, name: str, folder: Path | None = None) -> Engine:
        """Return an engine of the base alone, or with the adapter in a folder, which is loaded once.

        Args:
            name: shown to readers.

        Raises:
            GenerationError: there is no such adapter, or it does not fit the base.
        """
        if folder is None:
            return _SharedEngine(name, self._base, self._lock, None)
        with self._lock:
            if folder not in self._adapters:
                label = f"adapter_{len(self._adapters)}"  # a torch module's name has no dots: not the user's name
                self._base.add_adapter(label, folder)
                self._adapters[folder] = label
        return _SharedEngine(name, self._base, self._lock, self._adapters[folder])


@dataclass(frozen=True)
class _SharedEngine(Engine):
    name: str
    base: TransformersEngine
    lock: threading.Lock
    adapter: str | None

    def complete(self, requests: Sequence[GenerationRequest], on_completion: OnCompletion) -> None:
        with self.lock, contextlib.nullcontext() if self.adapter is None else self.base.using(self.adapter):
            self.base.complete(requests, on_completion)


class ModelPool(contextlib.ExitStack):
    """Models that are open at the same time; leaving the block, or `close`, frees them."""

    def __init__(self, *, out: Path = OUT, dtype: str | None = None) -> None:
        if dtype is not None and dtype not in DTYPES:
            raise GenerationError(f"dtype {dtype!r}: give one of {', '.join(DTYPES)}")
        super().__init__()
        self._out = out
        self._dtype = dtype
        self._bases: dict[tuple[str, str | None], SharedBase] = {}
        self._lock = threading.Lock()

    def open(
        self,
        source: str,
        *,
        base_url: str | None = None,
        provider: str | None = None,
        lora: str | None = None,
    ) -> Engine:
        """Open a model; a base that is already loaded is not loaded again.

        See `open_model` for the arguments and errors.
        """
        found = resolve_model(source, out=self._out, base_url=base_url, provider=provider, lora=lora)
        if self._dtype is not None and isinstance(found, EndpointSource | ProviderSource | GgufSource):
            raise GenerationError(
                f"{source} has a dtype of its own; leave {self._dtype} out, it is for transformers models that run on "
                "this machine"
            )
        if isinstance(found, EndpointSource | ProviderSource):
            from bonsai.recipes.inference.endpoint_engine import EndpointEngine

            return EndpointEngine.connect(found)
        with self._lock:
            if isinstance(found, GgufSource):
                from bonsai.recipes.inference.gguf_engine import GgufEngine

                gguf = GgufEngine.load(found.path, name=source, lora=found.lora)
                self.callback(gguf.close)
                return gguf
            if isinstance(found, HubModelSource):
                return self._load_base(found.place, found.revision).engine(source)
            try:
                base = self._load_base(found.base, found.base_revision)
            except GenerationError as error:
                raise GenerationError(f"{source} was trained on the base model {found.base}, but {error}") from error
            return base.engine(source, found.folder)

    def _load_base(self, base: str, revision: str | None) -> SharedBase:
        if (base, revision) not in self._bases:
            try:  # imported here: a server needs neither torch nor transformers
                from bonsai.recipes.inference.transformers_engine import TransformersEngine
            except ModuleNotFoundError as error:
                raise GenerationError(
                    f"{base} would run on this machine, but {error.name} is not installed; run "
                    "`pip install 'qeu-bonsai[train]'`, or give the address of a server"
                ) from error
            import torch

            dtype = None if self._dtype is None else getattr(torch, self._dtype)
            if Path(base).is_dir() or hub_is_reachable():
                loaded = TransformersEngine.load(base, revision=revision, dtype=dtype)
            elif config := cached_file(base, MODEL, revision):
                loaded = TransformersEngine.load(config.parent, dtype=dtype)
            else:
                raise GenerationError(f"{base} is neither here nor in the cache, and no Hub can be reached")
            self._bases[base, revision] = SharedBase(loaded)
            self.callback(self._bases.pop, (base, revision))
        return self._bases[base, revision]


@contextlib.contextmanager
def open_model(
    source: str,
    *,
    out: Path = OUT,
    base_url: str | None = None,
    provider: str | None = None,
    lora: str | None = None,
    dtype: str | None = None,
) -> Iterator[Engine]:
    """Open one model for the block; for several use `ModelPool`, which shares their bases.

    Args:
        source: one of

            - a recipe's name: the adapter in ``out/adapters/NAME`` if there is one, else the recipe's repo on the Hub;
            - a folder with an adapter or a model, or a ``.gguf`` file, with ``+ADAPTER.gguf`` behind it if need be;
            - a Hub id of an adapter or a model, with ``@REVISION`` behind it if need be, or ``OWNER/NAME/FILE.gguf``;
            - ``http(s)://HOST/v1#MODEL``, an OpenAI-compatible server (without ``#MODEL``: the only one it serves);
            - ``PROVIDER:MODEL``, through Hugging Face Inference Providers (``auto:`` lets the router choose).
        out: where `nox -s train` puts adapters (``out/adapters``).
        base_url: address of an OpenAI-compatible server; ``source`` is then the name of a model there.
        provider: an Inference Provider; ``source`` is then a Hub id. The same as ``PROVIDER:MODEL``.
        lora: a GGUF adapter, path or ``OWNER/NAME/FILE.gguf``, over a GGUF model.
        dtype: one of `DTYPES`; None: float32 on a CPU, and on a GPU float16 over NF4.

    Raises:
        GenerationError: there is no such model (similar names are suggested), it cannot be loaded, or the server
            cannot be reached.
    """
    with ModelPool(out=out, dtype=dtype) as models:
        yield models.open(source, base_url=base_url, provider=provider, lora=lora)
