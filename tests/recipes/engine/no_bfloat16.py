"""A watch over every operation: none may make bfloat16, which a T4 only emulates."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class NoBfloat16(TorchDispatchMode):
    """Within it, an operation that makes a bfloat16 tensor is an error; a product under bfloat16 autocast makes one."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if any(isinstance(leaf, Tensor) and leaf.dtype == torch.bfloat16 for leaf in tree_leaves(result)):
            raise AssertionError(f"{func} made a bfloat16 tensor")
        return result
