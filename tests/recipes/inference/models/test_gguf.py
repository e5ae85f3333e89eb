"""GGUF through llama.cpp: in this process, and behind its own server; both say the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import xllamacpp

from bonsai.builder.prompt import CHAT_TEMPLATE
from bonsai.recipes.inference.endpoint_engine import EndpointEngine
from bonsai.recipes.inference.generation import Completion, GenerationError, GenerationSettings
from bonsai.recipes.inference.gguf_engine import GgufEngine
from bonsai.recipes.inference.model_source import EndpointSource
from bonsai.recipes.inference.models import open_model
from bonsai.recipes.seedling import RECIPE
from bonsai.recipes.training.gguf import packaged_gguf

PROMPTS = [
    "### Instruction:\nWhy does bread dough rise?\n\n### Reasoning:\n",
    "### Instruction:\nWhat is the capital of France?\n\n### Reasoning:\nParis is.\n\n### Response:\n",
    "You are kind.\n\n### Instruction:\nName a river.\n\n### Reasoning:\n",
]
SHORT = GenerationSettings(max_new_tokens=8)


def texts(generations: list[Completion]) -> list[str]:
    return [generation.text for generation in generations]


def test_a_file_that_is_no_gguf_is_a_sentence(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.gguf"
    wrong.write_bytes(b"<html>not found</html>")
    with (
        pytest.raises(GenerationError, match=r"wrong\.gguf is not a GGUF file; fetch it again"),
        open_model(str(wrong)),
    ):
        pass
    wrong.write_bytes(b"GGUF" + bytes(64))
    with pytest.raises(GenerationError, match=r"wrong\.gguf cannot be loaded \(.*\); is it a whole model"):
        GgufEngine.load(wrong)


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    told = (
        "import sys; sys.modules['xllamacpp'] = None\n"
        "from pathlib import Path\n"
        "from bonsai.recipes.inference.gguf_engine import GgufEngine, GenerationError\n"
        "try: GgufEngine.load(Path('x.gguf'))\n"
        "except GenerationError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert "run `pip install 'qeu-bonsai[gguf]'`" in done.stdout


@pytest.mark.slow
def test_llama_cpps_own_server_says_what_the_file_says_here() -> None:
    with open_model(str(packaged_gguf(RECIPE))) as engine:
        here = engine.generate(PROMPTS, SHORT)
        assert engine.name.endswith(".gguf")
    settings: Any = xllamacpp.CommonParams()
    settings.model.path = str(packaged_gguf(RECIPE))
    settings.n_ctx, settings.n_parallel, settings.cpuparams.n_threads = 1024, 2, 1
    settings.warmup, settings.verbosity = False, -1
    settings.chat_template, settings.use_jinja = CHAT_TEMPLATE, True
    served = xllamacpp.Server(settings)
    engine = EndpointEngine.connect(EndpointSource(base_url=f"{served.listening_address}/v1", model=None))
    there = engine.generate(PROMPTS, SHORT)
    assert texts(there) == texts(here)
    assert all(texts(here))
    assert [(one.tokens, one.stopped_by) for one in there] == [(8, "length")] * 3
    with pytest.raises(GenerationError, match=r"1 of 2 answers came; .*exceeds the available context size"):
        engine.generate([PROMPTS[0], "x" * 5000], SHORT)


def write_lora(path: Path, base: Path) -> Path:
    """A random GGUF adapter for the first layer's queries, with llama.cpp's own names."""
    query = next(one for one in gguf.GGUFReader(base).tensors if one.name == "blk.0.attn_q.weight")
    width, height = (int(size) for size in query.shape)
    draw = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 8.0)
    for name, shape in (("lora_a", (4, width)), ("lora_b", (height, 4))):
        writer.add_tensor(f"{query.name}.{name}", draw.normal(size=shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.slow
def test_an_adapter_over_the_file_changes_what_it_says(tmp_path: Path) -> None:
    base = packaged_gguf(RECIPE)
    lora = write_lora(tmp_path / "lora.gguf", base)
    with open_model(str(base)) as bare, open_model(str(base), lora=str(lora)) as adapted:
        said = texts(adapted.generate(PROMPTS[:1], SHORT))
        assert said != texts(bare.generate(PROMPTS[:1], SHORT))
    with open_model(f"{base}+{lora}") as adapted:
        assert texts(adapted.generate(PROMPTS[:1], SHORT)) == said
    with pytest.raises(GenerationError, match=r"\.gguf is a model, not an adapter; give BASE\.gguf\+ADAPTER\.gguf"):
        GgufEngine.load(base, lora=base)


def test_an_adapter_alone_says_what_it_lacks(tmp_path: Path) -> None:
    path = tmp_path / "lora.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with (
        pytest.raises(GenerationError, match=r"is an adapter and lacks the base .* BASE\.gguf\+.*lora\.gguf\."),
        open_model(str(path)),
    ):
        pass


@pytest.mark.slow
def test_the_file_is_watched_stopped_and_refuses_as_other_engines_do() -> None:
    engine = GgufEngine.load(packaged_gguf(RECIPE), context=256)
    seen: list[str] = []

    def watch(place: int, text: str) -> bool:
        seen.append(text)
        return len(seen) == 3

    answer = engine.generate(PROMPTS[:1], SHORT, watch=watch)[0]
    assert (answer.text, answer.tokens, answer.stopped_by) == (seen[-1], 3, "watch")
    assert [later.startswith(earlier) for earlier, later in zip(["", *seen], seen, strict=False)] == [True] * 3
    stop = seen[-1].removeprefix(seen[0])
    stopped = engine.generate(PROMPTS[:1], GenerationSettings(max_new_tokens=8, stop_strings=(stop,)))[0]
    assert (stopped.text, stopped.stopped_by) == (seen[0], "stop_string")

    def faulty(place: int, text: str) -> bool:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        engine.generate(PROMPTS, SHORT, watch=faulty)
    told: list[int] = []
    with pytest.raises(GenerationError, match=r"1 of 2 answers came; llama\.cpp refused it \(request \(.* tokens\)"):
        engine.generate([PROMPTS[0], "x" * 5000], SHORT, on_answer=lambda place, one: told.append(place))
    assert told == [0]
    engine.close()
    with pytest.raises(GenerationError, match="is closed; open it again"):
        engine.generate(PROMPTS, SHORT)
