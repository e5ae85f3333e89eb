"""Render the README.md that the Hub shows for an adapter.

Every number comes from the run's own record; the template has none. A section without data is left out.
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

CELL = 160
"""characters of an answer that a table shows; the evaluation's own file has the whole answers"""
TABLE_ROWS = 12
"""the loss table shows about this many steps; training/loss.csv has them all"""
SERVED_AS = "bonsai"
"""the adapter's name in a server"""
NEW_TOKENS = 256
NGRAM_SIZES = {"en": 12}
"""no_repeat_ngram_size for adapters of one language. It must be more tokens than the beginnings of the two markers,
which are 3 of SmolLM2's and 8 bytes, or the response's is barred; with 8 the seedling looped in 0 of 20 answers."""
LONG_NGRAM = 24
"""and for all others: a token of Japanese may be a third of a character, and a short n-gram a name in the question"""
COLAB = "pip uninstall -y -q torchao   # Colab and Kaggle bring one that peft refuses; nothing here needs it"
"""Removes a package of the notebooks' that keeps an adapter from loading."""

_MARKUP = re.compile(r"[\\`*_\[\]<>|#&$~]")
_PYTHON_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_STAMP = "\n<!-- Rendered from the run's record; SHA-256 of what stands above: {} -->\n"
"""the last line, invisible to readers; it tells an edited card from an old one"""


def render(facts: AdapterFacts) -> str:
    """Render the whole README.md: YAML front matter, then Markdown in English with a Japanese summary."""
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)
    environment.filters.update(cell=cell, fenced=fenced, inline=inline, value=value)
    template = environment.from_string(files(__package__).joinpath("README.md.j2").read_text(encoding="utf-8"))
    # probes without a right answer are shown, not counted
    judged = [probe for probe in (facts.evaluation.probes if facts.evaluation else ()) if probe.right_after is not None]
    snippets = (install, peft, pipeline, merge, vllm, llama_cpp)
    body = template.render(
        facts=facts,
        losses=downsample_losses(facts.losses, facts.evaluations),
        footprint=footprint(facts.device, facts.seconds),
        answers={
            "judged": len(judged),
            "before": sum(bool(probe.right_before) for probe in judged),
            "after": sum(bool(probe.right_after) for probe in judged),
        },
        snippets={snippet.__name__: snippet for snippet in snippets},
    )
    text = f"---\n{front_matter(facts)}---\n\n{body.strip()}\n"
    return text + _STAMP.format(_sha256(text))


def is_edited(card: str) -> bool:
    """Check whether a card differs from what `render` once gave, by its stamp."""
    head, tail = map(re.escape, _STAMP.split("{}"))
    found = re.fullmatch(f"(.*){head}([0-9a-f]+){tail}", card, re.DOTALL)
    return found is None or _sha256(found[1]) != found[2]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def downsample_losses(losses: Sequence[LossRow], evaluations: Mapping[int, float] | None = None) -> list[LossRow]:
    """Pick the first step, the last, steps evenly between, and every step with a validation loss."""
    if len(losses) <= TABLE_ROWS:
        return list(losses)
    picked = {round(i * (len(losses) - 1) / (TABLE_ROWS - 1)) for i in range(TABLE_ROWS)}
    picked |= {number for number, row in enumerate(losses) if row.step in (evaluations or {})}
    return [losses[i] for i in sorted(picked)]


def python_snippets(card: str) -> list[str]:
    """Find every Python block of a card, in order: PEFT, pipeline, merging."""
    return _PYTHON_BLOCK.findall(card)


# Filters of the template.


def inline(text: str) -> str:
    """Escape a text for one line of Markdown or a table cell."""
    return _MARKUP.sub(r"\\\g<0>", " ".join(text.split()))


def cell(text: str) -> str:
    """Format an answer as a table cell, truncated to `CELL` characters."""
    line = " ".join(text.split())
    return inline(line if len(line) <= CELL else line[: CELL - 1] + "…")


def fenced(text: str) -> str:
    """Fence a text as a code block, with a fence longer than any inside it."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{text}\n{fence}"


def value(setting: Any) -> str:
    """Format a setting's value as a table cell."""
    if isinstance(setting, bool):
        return "yes" if setting else "no"
    if isinstance(setting, list | tuple):
        return ", ".join(map(str, setting))
    return inline(str(setting))


# Snippets of the card. `publish` runs the Python ones as they stand.


def generation(languages: Sequence[str]) -> dict[str, Any]:
    """Choose the settings of the snippets, and of the generation_config.json saved beside an adapter.

    In transformers, vLLM and llama.cpp a repetition penalty counts the prompt, its markers included, and so suppresses
    the form that the adapter has learnt; 1.0 is written out, because a base may bring another. Barred n-grams prevent
    the loops that the penalty was meant against. Asked 20 English questions greedily, the seedling gave Reasoning and
    response to 19 and looped in 9 without either, to 5 and 0 with a penalty of 1.15, and to 19 and 3 with n-grams of 12
    barred (benchmarks/card_settings.py).

    Args:
        languages: of the adapter's answers.
    """
    size = NGRAM_SIZES.get(languages[0], LONG_NGRAM) if len(languages) == 1 else LONG_NGRAM
    return {"max_new_tokens": NEW_TOKENS, "do_sample": False, "repetition_penalty": 1.0, "no_repeat_ngram_size": size}


def install(facts: AdapterFacts) -> str:
    """Install what the Python snippets import; peft brings torch where there is none."""
    return f"""pip install "peft=={facts.versions["peft"]}" "transformers=={facts.versions["transformers"]}"
{COLAB}"""


def peft(facts: AdapterFacts) -> str:
    """Load the adapter and ask it once; `publish` runs this very text from the published card.

    An adapter trained on a GPU is loaded in float16, on a GPU if there is one: its base may not fit into a notebook's
    memory otherwise.
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
    """Ask with transformers' pipeline.

    It finds the base model through the adapter, but by default takes the base's tokenizer, which has no chat template;
    and it would look for a given revision in the base's repo too, so it gets none.
    """
    return f'''from transformers import pipeline

adapter = "{facts.repo_id}"
generator = pipeline("text-generation", model=adapter, tokenizer=adapter)
question = [{{"role": "user", "content": "{QUESTION}"}}]
answer = generator(question, return_full_text=False, {_keywords(facts)})
print(answer[0]["generated_text"])'''


def merge(facts: AdapterFacts) -> str:
    """Merge into the base in float16, and ask the result; merged into NF4, most of the adapter is rounded away."""
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
    """Serve the adapter with OpenAI's protocol; the chat template is the adapter's, not the base model's."""
    return f'''pip install vllm
hf download {facts.repo_id} chat_template.jinja --revision {facts.tag} --local-dir {facts.name}
vllm serve {facts.base_model} --revision {facts.base_model_revision} \\
  --enable-lora --lora-modules {SERVED_AS}={facts.repo_id} \\
  --chat-template {facts.name}/chat_template.jinja
curl http://localhost:8000/v1/chat/completions -H "Content-Type: application/json" -d '{{
  "model": "{SERVED_AS}", "temperature": 0, "max_tokens": {NEW_TOKENS}, "repetition_penalty": 1.0,
  "messages": [{{"role": "user", "content": "{QUESTION}"}}]}}\''''


def llama_cpp(facts: AdapterFacts) -> str:
    """Convert the base to GGUF with llama.cpp's own script, and the adapter too if its repo has no GGUF."""
    clone = "git clone -q --depth 1 https://github.com/ggml-org/llama.cpp"
    download = f"hf download {facts.base_model} --revision {facts.base_model_revision} --local-dir base"
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
        f"llama-completion -m base.gguf --lora {lora} -no-cnv --temp 0 --repeat-penalty 1 -n {NEW_TOKENS} \\\n"
        f"  -p $'### Instruction:\\n{QUESTION}\\n\\n### Reasoning:\\n'"
    )
    return "\n".join((clone, download, convert, adapter, ask))
