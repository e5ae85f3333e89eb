"""The code a card shows, for four programs; and the finding of it again, so that it can be run."""

from __future__ import annotations

import re

from bonsai.model_card.facts import AdapterFacts
from bonsai.model_card.metadata import QUESTION

_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SERVED_AS = "bonsai"
"""the adapter's name in a server"""
REPETITION_PENALTY = 1.15
"""the posts' setting against repetition"""


def python_snippets(card: str) -> list[str]:
    """Every Python block of a card, in order: PEFT's, then the pipeline's."""
    return _BLOCK.findall(card)


def peft(facts: AdapterFacts) -> str:
    """Loads the adapter and asks it once; `publish` runs this very text from the published card."""
    return f'''import torch
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

adapter = "{facts.repo_id}"
tokenizer = AutoTokenizer.from_pretrained(adapter, revision="{facts.tag}")
model = AutoPeftModelForCausalLM.from_pretrained(adapter, revision="{facts.tag}", dtype=torch.float32)

question = [{{"role": "user", "content": "{QUESTION}"}}]
prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt", return_dict=True)
answer = model.generate(**prompt, max_new_tokens=120, do_sample=False, repetition_penalty={REPETITION_PENALTY})
print(tokenizer.decode(answer[0, prompt["input_ids"].shape[1]:], skip_special_tokens=True))'''


def pipeline(facts: AdapterFacts) -> str:
    """The same by transformers' pipeline.

    It finds the base model through the adapter, but takes the base's tokenizer, which has no template of ours, unless
    told; and it asks the base model too for the revision it is given, so it is given none.
    """
    return f'''from transformers import pipeline

adapter = "{facts.repo_id}"
generator = pipeline("text-generation", model=adapter, tokenizer=adapter)
question = [{{"role": "user", "content": "{QUESTION}"}}]
settings = {{"max_new_tokens": 120, "do_sample": False, "repetition_penalty": {REPETITION_PENALTY}}}
answer = generator(question, return_full_text=False, **settings)
print(answer[0]["generated_text"])'''


def vllm(facts: AdapterFacts) -> str:
    """A server that speaks OpenAI's protocol; the chat template is the adapter's, not the base model's."""
    return f'''hf download {facts.repo_id} chat_template.jinja --revision {facts.tag} --local-dir {facts.name}
vllm serve {facts.base_model} --revision {facts.base_model_revision} \\
  --enable-lora --lora-modules {SERVED_AS}={facts.repo_id} \\
  --chat-template {facts.name}/chat_template.jinja
curl http://localhost:8000/v1/chat/completions -H "Content-Type: application/json" -d '{{
  "model": "{SERVED_AS}", "temperature": 0, "max_tokens": 120, "repetition_penalty": {REPETITION_PENALTY},
  "messages": [{{"role": "user", "content": "{QUESTION}"}}]}}\''''


def llama_cpp(facts: AdapterFacts) -> str:
    """The base as GGUF by llama.cpp's own script, and the adapter beside it."""
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
        f"llama-cli -m base.gguf --lora {lora} -no-cnv --temp 0 --repeat-penalty {REPETITION_PENALTY} -n 120 \\\n"
        f"  -p $'### Instruction:\\n{QUESTION}\\n\\n### Reasoning:\\n'"
    )
    return "\n".join((first, convert, adapter, ask))
