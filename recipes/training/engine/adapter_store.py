"""All adapter weights of a model in one float32 buffer, with one half-precision copy for the matrix products.

One buffer makes the copy, the optimizer's step and the clipping one kernel each instead of one for each of some 400
small tensors. The model's own parameters become views of the buffer, so peft saves and loads them as ever.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bonsai.recipes.training.engine.errors import EngineError


class AdapterStore:
    """Adapter weights, flat.

    Attributes:
        flat: float32, all weights in the order given; a parameter, so that an optimizer can hold it.
        low: the same in the compute dtype; the buffer itself where that is float32.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], compute_dtype: torch.dtype) -> None:
        self.parameters = list(parameters)
        self._starts: dict[int, int] = {}
        end = 0
        for parameter in self.parameters:
            self._starts[id(parameter)] = end
            end += parameter.numel()
        if end == 0:
            raise EngineError("the model has no adapter weights that are trained; attach an adapter before the engine")
        self.flat = nn.Parameter(torch.cat([p.detach().reshape(-1).float() for p in self.parameters]))
        for parameter in self.parameters:
            parameter.data = self._part(self.flat.data, parameter)
        self._sum: Tensor | None = None
        self.low = self.flat.data if compute_dtype == torch.float32 else self.flat.data.to(compute_dtype)

    def refresh(self) -> None:
        """Bring the copy up to date: before every forward pass, one kernel."""
        if self.low.data_ptr() != self.flat.data_ptr():
            self.low.copy_(self.flat.data)

    def low_of(self, parameter: nn.Parameter) -> Tensor:
        """The parameter in the compute dtype, in its own shape."""
        return self._part(self.low, parameter)

    def low_rows(self, parameters: Sequence[nn.Parameter]) -> Tensor:
        """Neighbours in the buffer with the same number of columns, as one matrix: their rows one below the other."""
        first, columns = self._starts[id(parameters[0])], parameters[0].shape[1]
        rows = sum(parameter.shape[0] for parameter in parameters)
        return self.low[first : first + rows * columns].view(rows, columns)

    def gather_gradients(self) -> None:
        """Collect the parameters' gradients into ``flat.grad``; what got none counts as zero.

        Raises:
            EngineError: a parameter no longer lies in the buffer, so that a step would not reach it.
        """
        for parameter in self.parameters:
            if parameter.data_ptr() != self.flat.data_ptr() + 4 * self._starts[id(parameter)]:
                raise EngineError(
                    "an adapter weight was moved out of the engine's buffer (by .to() or .data = after it was set up); "
                    "set the engine up last"
                )
        if self._sum is not None and all(parameter.grad is None for parameter in self.parameters):
            self.flat.grad = self._sum
            return
        gathered = torch.cat(
            [
                (torch.zeros_like(parameter) if parameter.grad is None else parameter.grad).reshape(-1)
                for parameter in self.parameters
            ]
        )
        self.flat.grad = gathered if self._sum is None else gathered.add_(self._sum)

    def accumulated(self) -> list[Tensor]:
        """A second place for gradients, at fixed addresses: a buffer that graphs add to, in the parameters' shapes."""
        if self._sum is None:
            self._sum = torch.zeros_like(self.flat.data)
        return [self._part(self._sum, parameter) for parameter in self.parameters]

    def clear_accumulated(self) -> None:
        """Begin the next step's sum."""
        if self._sum is not None:
            self._sum.zero_()

    def _part(self, buffer: Tensor, parameter: nn.Parameter) -> Tensor:
        start = self._starts[id(parameter)]
        return buffer[start : start + parameter.numel()].view(parameter.shape)
