"""Keys and values of many rows of unlike length, with room to grow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer

ROOM = 64
"""tokens a buffer grows by"""


class RoomyLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """A new token is written behind the others; transformers' own layer copies all of them for each new one.

    ``keys`` and ``values`` are views of the filled part of the buffers, shape (B, heads, tokens, head size).
    """

    keys: Any
    values: Any

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append the states of new tokens; returns those of all tokens."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.hold(key_states, value_states)
        else:
            filled = self.keys.shape[-2]
            end = filled + key_states.shape[-2]
            if end > self._buffers[0].shape[-2]:
                self.hold(self.keys, self.values, room=ROOM + key_states.shape[-2])
            for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
                buffer[:, :, filled:end] = states
            self.keys, self.values = (buffer[:, :, :end] for buffer in self._buffers)
        return self.keys, self.values

    def hold(self, keys: torch.Tensor, values: torch.Tensor, *, room: int = ROOM) -> None:
        """Take these states over into new buffers."""
        filled = keys.shape[-2]
        buffers = []
        for states in (keys, values):
            buffer = states.new_empty((*states.shape[:2], filled + room, states.shape[-1]))
            buffer[:, :, :filled] = states
            buffers.append(buffer)
        self._buffers = buffers
        self.keys, self.values = (buffer[:, :, :filled] for buffer in buffers)

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep these rows only."""
        self.hold(self.keys[indices], self.values[indices])


def empty_cache() -> Cache:
    """For a prefill; a layer for each of the model's comes into being with its first states."""
    return Cache(layer_class_to_replicate=RoomyLayer)


def joined(caches: Sequence[Cache], lengths: Sequence[int], width: int) -> Cache:
    """The rows of several caches in one, their last tokens aligned at ``width``.

    Args:
        lengths: tokens to take from the end of each cache; what stands before is padding in every row of it.
        width: tokens of the new cache; what a shorter row lacks on its left is zero, and to be masked.
    """
    layers = []
    for number in range(len(caches[0].layers)):
        parts: list[Any] = [cache.layers[number] for cache in caches]
        layer = RoomyLayer()  # type: ignore[no-untyped-call]
        layer.lazy_initialization(parts[0].keys, parts[0].values)
        layer.hold(*(_aligned([getattr(part, name) for part in parts], lengths, width) for name in ("keys", "values")))
        layers.append(layer)
    return Cache(layers=list(layers))


def _aligned(states: Sequence[torch.Tensor], lengths: Sequence[int], width: int) -> torch.Tensor:
    rows = sum(len(part) for part in states)
    whole = states[0].new_zeros((rows, states[0].shape[1], width, states[0].shape[-1]))
    first = 0
    for part, length in zip(states, lengths, strict=True):
        whole[first : first + len(part), :, width - length :] = part[:, :, part.shape[-2] - length :]
        first += len(part)
    return whole
