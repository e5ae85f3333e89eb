"""What the benchmarks of question chains share: the model, the nine prepared questions, and what a run is told by."""

from __future__ import annotations

import argparse
import contextlib
import platform
from collections.abc import Iterator
from pathlib import Path

import torch
import transformers

from bonsai.builder.schema import Language
from bonsai.recipes.inference.conversation import QuestionChain, prepared
from bonsai.recipes.inference.qtq import QtQSettings, new_stored_chain
from bonsai.recipes.inference.transformers_engine import TransformersEngine

RESULTS = Path(__file__).parent / "results"


def parser(told: str | None, *, depth: int, tokens: int) -> argparse.ArgumentParser:
    """The options of all of them; the base is left to each."""
    made = argparse.ArgumentParser(description=told, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--adapter")
    made.add_argument("--depth", type=int, default=depth)
    made.add_argument("--tokens", type=int, default=tokens)
    made.add_argument("--device", choices=("cuda", "cpu"), default="cpu")
    made.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    made.add_argument("--chains", type=int, default=9, help="the first of the nine prepared questions")
    made.add_argument("--batch", type=int, default=36)
    made.add_argument("--threads", type=int, default=2)
    return made


@contextlib.contextmanager
def opened(options: argparse.Namespace, batch_size: int) -> Iterator[TransformersEngine]:
    dtype = getattr(torch, options.dtype)
    engine = TransformersEngine.load(options.base, dtype=dtype, device=options.device, batch_size=batch_size)
    if options.adapter is None:
        yield engine
        return
    engine.add_adapter("seedling", options.adapter)
    with engine.using("seedling"):
        yield engine


def openings(settings: QtQSettings, options: argparse.Namespace) -> list[QuestionChain]:
    model = f"{'seedling' if options.adapter else 'bare base'}, {options.dtype} on {options.device}"
    questions = prepared(Language.EN)[: options.chains]
    return [new_stored_chain(one, model=model, depth=options.depth, settings=settings) for one in questions]


def about(options: argparse.Namespace) -> dict[str, object]:
    return {
        "depth": options.depth,
        "max_new_tokens": options.tokens,
        "batch_size": options.batch,
        "device": torch.cuda.get_device_name() if options.device == "cuda" else "CPU",
        "threads": torch.get_num_threads(),
        "dtype": options.dtype,
        "machine": platform.machine(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
