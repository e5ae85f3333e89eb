"""What every engine offers, whether the model lies on this machine or behind an address."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from bonsai.builder.schema import BonsaiError

if TYPE_CHECKING:
    from bonsai.recipes.inference.generation.decoder import Decoder


class GenerationError(BonsaiError, ValueError):
    """A model that cannot be loaded or asked as it was asked."""


StoppedBy = Literal["eos", "stop_string", "length", "watch"]


@dataclass(frozen=True, kw_only=True)
class Generation:
    """What a model said to one prompt."""

    text: str
    """without the prompt, the end mark and the stop string"""
    tokens: int
    """generated, the end mark included"""
    stopped_by: StoppedBy
    seconds: float
    """from the reading of the prompt to the last token, its neighbours' work included"""

    @property
    def stopped_by_eos(self) -> bool:
        """Whether the model itself said that it was done."""
        return self.stopped_by == "eos"


OnAnswer = Callable[[int, Generation], None]
"""Called with the place of the prompt and its answer as soon as that answer is complete; the order is the engine's."""

Watch = Callable[[int, str], bool]
"""Called after each token with the place of the prompt and the text so far; True ends that answer there.

For streaming, and for guards that stop a loop. Never called twice at once, but perhaps from another thread.
"""


class Request(NamedTuple):
    """One prompt, to be answered in its own way."""

    prompt: str
    decoder: Decoder
    watch: Callable[[str], bool] | None = None
    """told the text so far after each token; True ends the answer there"""


class Engine(Protocol):
    """A model that answers prompts."""

    @property
    def name(self) -> str:
        """What a reader calls it."""

    def generate(
        self,
        prompts: Sequence[str],
        decoder: Decoder,
        *,
        on_answer: OnAnswer | None = None,
        watch: Watch | None = None,
    ) -> list[Generation]:
        """The answers, in the order of the prompts.

        Raises:
            GenerationError: a prompt cannot be asked, or the machine is too small for even one.
        """
