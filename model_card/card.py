"""Render the README.md that the Hub shows for an adapter.

Every number comes from the run's own record; the template holds none. A section without data is left out as a whole.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined

from bonsai.model_card.facts import AdapterFacts, LossRow
from bonsai.model_card.metadata import QUESTION, footprint, front_matter

_MARKUP = re.compile(r"[\\`*_\[\]<>|#&$~]")
CELL = 160
"""characters of an answer that a table shows; the whole answers are in the evaluation's own file"""


def inline(text: str) -> str:
    """One line of running text or a table cell."""
    return _MARKUP.sub(r"\\\g<0>", " ".join(text.split()))


def cell(text: str) -> str:
    """An answer as a table cell, cut where it runs on."""
    line = " ".join(text.split())
    return inline(line if len(line) <= CELL else line[: CELL - 1] + "…")


def fenced(text: str) -> str:
    """A block of text that shows as it stands, whatever it holds."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{text}\n{fence}"


def value(setting: Any) -> str:
    """A setting's value as a table cell."""
    if isinstance(setting, bool):
        return "yes" if setting else "no"
    if isinstance(setting, list | tuple):
        return ", ".join(map(str, setting))
    return inline(str(setting))


_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SERVED_AS = "bonsai"
"""the adapter's name in a server"""
NEW_TOKENS = 256
RUNS = {"en": 12}
"""no_repeat_ngram_size for adapters of one language. It must be more tokens than the beginnings of the two markers,
which are 3 of SmolLM2's and 8 bytes, or the response's is barred; with 8 the seedling looped in 0 of 20 answers."""
LONG_RUN = 24
"""and for all others: a token of Japanese may be a third of a character, and a short run a name of the question"""
COLAB = "pip uninstall -y -q torchao   # Colab and Kaggle bring one that peft refuses; nothing here needs it"
"""What an adapter's loading needs where notebooks come with packages of their own."""


def generation(languages: Sequence[str]) -> dict[str, Any]:
    """Settings of the snippets, and of the generation_config.json saved beside an adapter.

    A repetition penalty counts the prompt, its markers included, in transformers, vLLM and llama.cpp alike, and so
    takes the form away that the adapter has learnt; 1.0 is written out, for a base may bring another. What the penalty
    was there for, a text that runs in a loop, the barred runs of tokens prevent. Asked 20 English questions greedily,
    the seedling gave Reasoning and response to 19 and looped in 9 without either, to 5 and 0 with a penalty of 1.15,
    and to 19 and 3 with runs of 12 barred (benchmarks/card_settings.py).

    Args:
        languages: that the adapter answers in.
    """
    run = RUNS.get(languages[0], LONG_RUN) if len(languages) == 1 else LONG_RUN
    return {"max_new_tokens": NEW_TOKENS, "do_sample": False, "repetition_penalty": 1.0, "no_repeat_ngram_size": run}


def python_snippets(card: str) -> list[str]:
    """Find every Python block of a card, in order: PEFT's, the pipeline's, the merging."""
    return _BLOCK.findall(card)


def install(facts: AdapterFacts) -> str:
    """Install what the Python snippets import; peft brings torch where there is none."""
    return f"""pip install "peft=={facts.versions["peft"]}" "transformers=={facts.versions["transformers"]}"
{COLAB}"""


def peft(facts: AdapterFacts) -> str:
    """Load the adapter and ask it once; `publish` runs this very text from the published card.

    An adapter that was trained on a GPU is loaded in float16, on a GPU where there is one: its base may be too large
    for a notebook's memory otherwise.
    """
    half = facts.compute_dtype == "float16"
    placed = 'dtype=torch.float16, device_map="auto"' if half else "dtype=torch.float32"
    return f'''import torch
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

adapter = "{facts.repo_id}"
tokenizer = AutoTokenizer.from_pretrained(adapter, revision="{facts.tag}")
model = AutoPeftModelForCausalLM.from_pretrained(adapter, revision="{facts.tag}", {placed})

question = [{{"role": "user", "content": "{QUESTION}"}}]
prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt", return_dict=True)
answer = model.generate(**prompt{".to(model.device)" if half else ""}, {_keywords(facts)})
print(tokenizer.decode(answer[0, prompt["input_ids"].shape[1]:], skip_special_tokens=True))'''


def pipeline(facts: AdapterFacts) -> str:
    """Ask by transformers' pipeline.

    It finds the base model through the adapter, but takes the base's tokenizer, which has no template of ours, unless
    told; and it asks the base model too for the revision it is given, so it is given none.
    """
    return f'''from transformers import pipeline

adapter = "{facts.repo_id}"
generator = pipeline("text-generation", model=adapter, tokenizer=adapter)
question = [{{"role": "user", "content": "{QUESTION}"}}]
answer = generator(question, return_full_text=False, {_keywords(facts)})
print(answer[0]["generated_text"])'''


def merge(facts: AdapterFacts) -> str:
    """Merge into the base in float16, and ask what came of it; merged into NF4, most of the adapter is rounded away."""
    return f'''import torch
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer, pipeline

adapter, merged = "{facts.repo_id}", "{facts.name}-merged"
model = AutoPeftModelForCausalLM.from_pretrained(adapter, revision="{facts.tag}", dtype=torch.float16)
model.merge_and_unload().save_pretrained(merged)
AutoTokenizer.from_pretrained(adapter, revision="{facts.tag}").save_pretrained(merged)

question = [{{"role": "user", "content": "{QUESTION}"}}]
answer = pipeline("text-generation", model=merged)(question, return_full_text=False, {_keywords(facts)})
print(answer[0]["generated_text"])'''


def _keywords(facts: AdapterFacts) -> str:
    """Write the settings as the arguments of a call."""
    return ", ".join(f"{name}={value!r}" for name, value in generation(facts.languages).items())


def vllm(facts: AdapterFacts) -> str:
    """A server that speaks OpenAI's protocol; the chat template is the adapter's, not the base model's."""
    return f'''pip install vllm
hf download {facts.repo_id} chat_template.jinja --revision {facts.tag} --local-dir {facts.name}
vllm serve {facts.base_model} --revision {facts.base_model_revision} \\
  --enable-lora --lora-modules {SERVED_AS}={facts.repo_id} \\
  --chat-template {facts.name}/chat_template.jinja
curl http://localhost:8000/v1/chat/completions -H "Content-Type: application/json" -d '{{
  "model": "{SERVED_AS}", "temperature": 0, "max_tokens": {NEW_TOKENS}, "repetition_penalty": 1.0,
  "messages": [{{"role": "user", "content": "{QUESTION}"}}]}}\''''


def llama_cpp(facts: AdapterFacts) -> str:
    """The base as GGUF by llama.cpp's own script, and the adapter beside it."""
    fetched = "git clone -q --depth 1 https://github.com/ggml-org/llama.cpp"
    first = f"hf download {facts.base_model} --revision {facts.base_model_revision} --local-dir base"
    convert = "python llama.cpp/convert_hf_to_gguf.py base --outtype f16 --outfile base.gguf"
    if facts.gguf:
        lora = facts.gguf
        adapter = f"hf download {facts.repo_id} {lora} --revision {facts.tag} --local-dir ."
    else:
        lora = f"{facts.name}.gguf"
        adapter = (
            f"hf download {facts.repo_id} --revision {facts.tag} --local-dir {facts.name}\n"
            f"python llama.cpp/convert_lora_to_gguf.py --base base --outfile {lora} {facts.name}"
        )
    ask = (
        f"llama-completion -m base.gguf --lora {lora} -no-cnv --temp 0 --repeat-penalty 1 -n "
        f"{NEW_TOKENS} \\\n"
        f"  -p $'### Instruction:\\n{QUESTION}\\n\\n### Reasoning:\\n'"
    )
    return "\n".join((fetched, first, convert, adapter, ask))


TABLE_ROWS = 12
"""the loss table shows about this many steps; training/loss.csv has them all"""
_STAMP = "\n<!-- Rendered from the run's record; SHA-256 of what stands above: {} -->\n"
"""the last line, which no reader sees; by it an edited card is told from an old one"""


def render(facts: AdapterFacts) -> str:
    """The whole README.md: YAML front matter, then Markdown in English with a Japanese summary."""
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)
    environment.filters.update(cell=cell, fenced=fenced, inline=inline, value=value)
    template = environment.from_string(files(__package__).joinpath("README.md.j2").read_text(encoding="utf-8"))
    body = template.render(
        facts=facts,
        losses=downsample_losses(facts.losses, facts.evaluations),
        footprint=footprint(facts.device, facts.seconds),
        answers=_answers(facts),
        snippets={
            "install": install,
            "peft": peft,
            "pipeline": pipeline,
            "merge": merge,
            "vllm": vllm,
            "llama_cpp": llama_cpp,
        },
    )
    text = f"---\n{front_matter(facts)}---\n\n{body.strip()}\n"
    return text + _STAMP.format(_sha256(text))


def is_edited(card: str) -> bool:
    """Whether a card is not, to the letter, what `render` once gave."""
    head, tail = map(re.escape, _STAMP.split("{}"))
    found = re.fullmatch(f"(.*){head}([0-9a-f]+){tail}", card, re.DOTALL)
    return found is None or _sha256(found[1]) != found[2]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def downsample_losses(losses: Sequence[LossRow], evaluations: Mapping[int, float] | None = None) -> list[LossRow]:
    """First, last, and steps evenly between, with every step after which the validation loss was taken."""
    if len(losses) <= TABLE_ROWS:
        return list(losses)
    picked = {round(i * (len(losses) - 1) / (TABLE_ROWS - 1)) for i in range(TABLE_ROWS)}
    picked |= {number for number, row in enumerate(losses) if row.step in (evaluations or {})}
    return [losses[i] for i in sorted(picked)]


def _answers(facts: AdapterFacts) -> Mapping[str, int]:
    """How many of the probes with a right answer were answered rightly."""
    judged = [p for p in (facts.evaluation.probes if facts.evaluation else ()) if p.right_after is not None]
    return {
        "judged": len(judged),
        "before": sum(bool(probe.right_before) for probe in judged),
        "after": sum(bool(probe.right_after) for probe in judged),
    }
