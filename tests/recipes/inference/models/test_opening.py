"""Names of models become engines: from folders, from recipes, from a Hub; one base is loaded once."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from bonsai.hub.publish import publish_files
from bonsai.hub.repo_files import folder_files
from bonsai.hub.server.serve import HubAddress
from bonsai.recipes.inference.generation import GenerationError, GenerationSettings
from bonsai.recipes.inference.models import ModelPool, open_model
from tests.recipes.inference.models.openai_server import OpenAIServer, serving
from tests.recipes.tiny import write_tiny_llama

PROMPTS = ["### Instruction:\nWhy?\n\n### Reasoning:\n", "東京"]
SHORT = GenerationSettings(max_new_tokens=12)


def grow(folder: Path, base: Path, *, seed: int, **config: Any) -> Path:
    """A random adapter over the base, its config changed as told."""
    torch.manual_seed(seed)
    lora = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), lora).save_pretrained(folder)
    told = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(told | config))
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def out(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out")
    for seed, name in enumerate(("seedling", "twig.v2"), start=1):
        grow(folder / "adapters" / name, base, seed=seed)
    return folder


def bases_in_memory() -> int:
    gc.collect()
    return sum(type(one) is LlamaForCausalLM for one in gc.get_objects())


def test_adapters_of_one_base_share_it_and_each_speaks_for_itself(out: Path, base: Path) -> None:
    before = bases_in_memory()
    with ModelPool(out=out) as models:
        engines = [models.open(source) for source in ("seedling", "twig.v2", str(base), "seedling")]
        assert bases_in_memory() == before + 1
        assert [engine.name for engine in engines] == ["seedling", "twig.v2", str(base), "seedling"]
        answers = [[one.text for one in engine.generate(PROMPTS, SHORT)] for engine in engines]
        assert answers[0] == answers[3]
        assert len({*map(tuple, answers)}) == 3
        assert [one.text for one in engines[1].generate(PROMPTS, SHORT)] == answers[1]
    for source, answer in zip(("seedling", "twig.v2", str(base)), answers, strict=False):
        with open_model(source, out=out) as alone:
            assert [one.text for one in alone.generate(PROMPTS, SHORT)] == answer
    del engines, models, alone
    assert bases_in_memory() == before


def test_a_folder_is_told_by_what_lies_in_it(out: Path, base: Path, tmp_path: Path) -> None:
    with open_model(str(out / "adapters" / "seedling")) as engine:
        assert engine.generate(PROMPTS, SHORT)
    lost = grow(tmp_path / "lost", base, seed=3, base_model_name_or_path=str(tmp_path / "gone"))
    with pytest.raises(
        GenerationError, match=r"lost was trained on the base model .*gone, but .*gone (cannot|is neither)"
    ):
        open_model(str(lost)).__enter__()
    (lost / "adapter_config.json").write_text("{}")
    with pytest.raises(GenerationError, match="names no base model; write base_model_name_or_path into it"):
        open_model(str(lost)).__enter__()
    (lost / "adapter_config.json").write_text("{")
    with pytest.raises(GenerationError, match=r"adapter_config\.json cannot be read \(.*\); fetch or train it again"):
        open_model(str(lost)).__enter__()


def test_an_address_may_carry_the_name_of_the_model() -> None:
    with serving(OpenAIServer(models=("small", "large"))) as server:
        for settings in ({"source": f"{server.base_url}#large"}, {"source": "large", "base_url": server.base_url[:-3]}):
            with open_model(**settings) as engine:
                assert engine.name.startswith("large @ 127.0.0.1:")
                assert engine.generate(PROMPTS, SHORT)[0].text == "yes"
        assert {body["model"] for body in server.bodies} == {"large"}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"source": "x", "base_url": "localhost:8000"},
            r"'localhost:8000' is not a valid address; write http://HOST:PORT/v1",
        ),
        ({"source": "http://me:secret@host/v1"}, r"^the address of host contains a password; put the key into OPENAI"),
        ({"source": "x", "provider": "grok"}, r"no Inference Provider is called 'grok'; did you mean groq\?"),
        ({"source": "x", "provider": "groq", "base_url": "http://host/v1"}, "at http://host/v1 and through groq; give"),
        (
            {"source": "http://host/v1#x", "lora": "y.gguf"},
            r"http://host/v1#x is not a GGUF file, but y\.gguf is an adapter",
        ),
    ],
)
def test_what_cannot_be_meant_is_a_sentence(settings: dict[str, str], said: str) -> None:
    with pytest.raises(GenerationError, match=said) as error:
        open_model(**settings).__enter__()
    assert "secret" not in str(error.value)


def test_a_provider_asks_for_a_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr("huggingface_hub.constants.HF_STORED_TOKENS_PATH", str(tmp_path / "stored"))
    with pytest.raises(GenerationError, match="groq asks for a token; put yours from Hugging Face into HF_TOKEN"):
        open_model("groq:meta-llama/Llama-3.1-8B-Instruct").__enter__()
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    with open_model("groq:meta-llama/Llama-3.1-8B-Instruct") as engine:
        assert engine.name == "meta-llama/Llama-3.1-8B-Instruct @ groq"


ASKED = f"""
import json, sys
from pathlib import Path
from bonsai.recipes.inference.generation import GenerationSettings as Decoder
from bonsai.recipes.inference.generation import GenerationError
from bonsai.recipes.inference.models import ModelPool as Models

told = {{}}
with Models(out=Path(sys.argv[1])) as models:
    for source in sys.argv[2:]:
        try:
            told[source] = [one.text for one in models.open(source).generate({PROMPTS!r}, Decoder(max_new_tokens=12))]
        except GenerationError as error:
            told[source] = str(error)
    told["families"] = len(models._bases)
print(json.dumps(told))
"""


def asked(out: Path, home: Path, *sources: str, **environment: str) -> dict[str, Any]:
    """What a fresh process, whose clients read their Hub's address when imported, makes of the sources."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "BONSAI_"))}
    done = subprocess.run(
        [sys.executable, "-c", ASKED, str(out), *sources],
        env={**kept, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.slow
def test_the_hub_is_asked_what_a_repo_is_and_offers_near_names(
    far_hub: HubAddress, tiny_base: str, base: Path, tmp_path: Path
) -> None:
    api = HfApi(endpoint=far_hub.endpoint, token=far_hub.token)
    for seed, name in enumerate(("bonsai-twig", "bonsai-seedling"), start=1):
        folder = grow(tmp_path / name, base, seed=seed, base_model_name_or_path=tiny_base, revision="v1.0")
        (folder / "README.md").write_text(f"---\nlicense: mit\nbase_model: {tiny_base}\n---\n\nFor tests.\n")
        publish_files(
            api, repo_id=f"qeu/{name}", repo_type="model", files=folder_files(folder), message="x", tag="v1.0"
        )
    ggufs = tmp_path / "ggufs"
    ggufs.mkdir()
    for name in ("a.gguf", "b.gguf"):
        (ggufs / name).write_bytes(b"no model")
    (ggufs / "README.md").write_text("---\nlicense: mit\n---\n\nFor tests.\n")
    publish_files(api, repo_id="qeu/files", repo_type="model", files=folder_files(ggufs), message="x", tag="v1.0")

    sources = ("qeu/bonsai-twig@v1.0", "seedling", tiny_base, "qeu/bonsai-twigs", "qeu/bonsai-twig@v9", "qeu/files")
    told = asked(tmp_path / "out", tmp_path / "home", *sources, "seedlin", **far_hub.environment())
    answers = [told.pop(source) for source in sources[:3]]
    assert all(isinstance(answer, list) and len(answer) == 2 for answer in answers)
    assert len({*map(tuple, answers)}) == 3
    assert told == {
        "qeu/bonsai-twigs": "qeu/bonsai-twigs is neither here nor on the Hub; "
        "did you mean qeu/bonsai-twig or qeu/bonsai-seedling?",
        "qeu/bonsai-twig@v9": "qeu/bonsai-twig has no revision 'v9'; give a commit id or a tag",
        "qeu/files": "qeu/files has several GGUF files; give one: qeu/files/a.gguf, qeu/files/b.gguf",
        "seedlin": "seedlin is neither here nor on the Hub; did you mean seedling?",
        "families": 2,
    }
    # what was fetched once is opened again without a Hub
    again = asked(
        tmp_path / "out",
        tmp_path / "home",
        "qeu/bonsai-twig@v1.0",
        "phi2_qt",
        "phi2_qtq",
        HF_ENDPOINT="http://127.0.0.1:9",
    )
    assert again["qeu/bonsai-twig@v1.0"] == answers[0]
    assert again["phi2_qt"] == (
        "phi2_qt is neither here nor in the cache, and no Hub can be reached; did you mean phi2_qtq?"
    )
    assert again["phi2_qtq"] == (
        f"phi2_qtq is not trained here ({tmp_path}/out/adapters/phi2_qtq has no adapter), nor is qeu/bonsai-phi2-qtq "
        "in the cache, and no Hub can be reached; run `nox -s train -- phi2_qtq` first"
    )


def test_a_model_computes_in_the_dtype_it_is_asked_to(out: Path, base: Path, tmp_path: Path) -> None:
    for dtype in ("bfloat16", "float32"):
        with ModelPool(out=out, dtype=dtype) as models:
            assert models.open("seedling").generate(PROMPTS, SHORT)
            (family,) = models._bases.values()
            assert family._base.dtype == dtype
    with pytest.raises(GenerationError, match="dtype 'int3': give one of float32, float16, bfloat16"):
        ModelPool(out=out, dtype="int3")
    (tmp_path / "some.gguf").write_bytes(b"GGUF")
    with (
        pytest.raises(GenerationError, match=r"some.gguf has a dtype of its own; leave bfloat16 out"),
        open_model(str(tmp_path / "some.gguf"), dtype="bfloat16"),
    ):
        pass
