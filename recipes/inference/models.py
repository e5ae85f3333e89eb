"""Open models by name; models that share a base share it in memory."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from bonsai.recipes.inference.generation import (
    Completion,
    Engine,
    GenerationError,
    GenerationRequest,
    GenerationSettings,
    OnAnswer,
    StopCheck,
)
from bonsai.recipes.inference.model_source import (
    MODEL,
    EndpointSource,
    GgufSource,
    HubModelSource,
    LocalSource,
    ProviderSource,
    cached_file,
    hub_is_reachable,
    resolve_model,
)
from bonsai.recipes.inference.sessions import OnCompletion

if TYPE_CHECKING:
    from bonsai.recipes.inference.transformers_engine import TransformersEngine


class SharedBase:
    """A base model that stays loaded while adapters come to it."""

    def __init__(self, base: TransformersEngine) -> None:
        self._base = base
        self._adapters: dict[Path, str] = {}
        self._turn = threading.Lock()
        """the adapter in use is a state of the model, so one answers at a time"""

    def bare(self, name: str) -> Engine:
        """The base by itself."""
        return _SharedEngine(name, None, self._base, self._turn)

    def adapter_engine(self, name: str, folder: Path) -> Engine:
        """The base with this adapter, which is loaded unless it is already.

        Args:
            name: what a reader calls it.

        Raises:
            GenerationError: there is no such adapter, or it does not fit the base.
        """
        with self._turn:
            if folder not in self._adapters:
                label = f"adapter_{len(self._adapters)}"  # a torch module's name: no dots, so not the person's
                self._base.add_adapter(label, folder)
                self._adapters[folder] = label
        return _SharedEngine(name, self._adapters[folder], self._base, self._turn)


class _SharedEngine:
    def __init__(self, name: str, adapter: str | None, base: TransformersEngine, turn: threading.Lock) -> None:
        self._name = name
        self._adapter = adapter
        self._base = base
        self._turn = turn

    @property
    def name(self) -> str:
        return self._name

    def generate(
        self,
        prompts: Sequence[str],
        decoder: GenerationSettings,
        *,
        on_answer: OnAnswer | None = None,
        watch: StopCheck | None = None,
    ) -> list[Completion]:
        with self._turn, contextlib.nullcontext() if self._adapter is None else self._base.using(self._adapter):
            return self._base.generate(prompts, decoder, on_answer=on_answer, watch=watch)

    def generate_continuously(self, requests: Sequence[GenerationRequest], on_completion: OnCompletion) -> None:
        with self._turn, contextlib.nullcontext() if self._adapter is None else self._base.using(self._adapter):
            self._base.generate_continuously(requests, on_completion)


OUT = Path("out")
DTYPES = ("float32", "float16", "bfloat16")
"""that a model of transformers may be asked to compute in; half the memory, and not the same words to the last"""


class ModelPool:
    """Models that are open at the same time; whoever opens them closes them, as a context or by `close`."""

    def __init__(self, *, out: Path = OUT, dtype: str | None = None) -> None:
        if dtype is not None and dtype not in DTYPES:
            raise GenerationError(f"dtype {dtype!r}: give one of {', '.join(DTYPES)}")
        self._out = out
        self._dtype = dtype
        self._families: dict[tuple[str, str | None], SharedBase] = {}
        self._closing = contextlib.ExitStack()
        self._turn = threading.Lock()

    def __enter__(self) -> ModelPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def open(
        self,
        source: str,
        *,
        base_url: str | None = None,
        provider: str | None = None,
        lora: str | None = None,
    ) -> Engine:
        """An engine for this model; a base that is loaded already is not loaded again.

        See `open_model` for the arguments and errors.
        """
        found = resolve_model(source, out=self._out, base_url=base_url, provider=provider, lora=lora)
        if self._dtype is not None and isinstance(found, EndpointSource | ProviderSource | GgufSource):
            raise GenerationError(
                f"{source} has a dtype of its own; leave {self._dtype} out, it is for models of transformers that "
                "run on this machine"
            )
        if isinstance(found, EndpointSource | ProviderSource):
            from bonsai.recipes.inference.endpoint_engine import EndpointEngine

            return EndpointEngine.reach(found)
        with self._turn:
            return self._loaded(source, found)

    def close(self) -> None:
        """Let go of everything; no engine of these may be asked any more."""
        self._families.clear()
        self._closing.close()

    def _loaded(self, source: str, found: LocalSource) -> Engine:
        if isinstance(found, GgufSource):
            from bonsai.recipes.inference.gguf_engine import GgufEngine

            gguf = GgufEngine.load(found.path, name=source, lora=found.lora)
            self._closing.callback(gguf.close)
            return gguf
        if isinstance(found, HubModelSource):
            return self._family(found.place, found.revision).bare(source)
        try:
            family = self._family(found.base, found.base_revision)
        except GenerationError as error:
            raise GenerationError(f"{source} grew on the base model {found.base}, and {error}") from error
        return family.adapter_engine(source, found.folder)

    def _family(self, base: str, revision: str | None) -> SharedBase:
        if (base, revision) not in self._families:
            try:  # here and not above: an address needs neither torch nor transformers
                from bonsai.recipes.inference.transformers_engine import TransformersEngine
            except ModuleNotFoundError as error:
                raise GenerationError(
                    f"{base} would run on this machine, and {error.name} is not installed; run "
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
            self._families[base, revision] = SharedBase(loaded)
        return self._families[base, revision]


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
    """One model, open for as long as the block lasts; for several use `Models`, which shares their bases.

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
        GenerationError: there is no such model (the nearest names are offered), it cannot be loaded, or the server
            cannot be reached.
    """
    with ModelPool(out=out, dtype=dtype) as models:
        yield models.open(source, base_url=base_url, provider=provider, lora=lora)
