"""Write task files for the LM Evaluation Harness.

Its folder holds two Parquet files and one YAML a task; the prompts are rendered here, so nothing is worded twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import yaml

from bonsai.builder.files import atomic_replace_dir
from bonsai.builder.prompt import INSTRUCTION_MARKER, RESPONSE_MARKER
from bonsai.recipes.evaluation.items import EvalItem
from bonsai.recipes.inference.generation import GREEDY

FOLDER = "lm_eval"
TAG = "bonsai"
_NAMES = {"test": "bonsai_test", "probe": "bonsai_probes"}
ANSWER = rf"(?s)(?:\A|\n){RESPONSE_MARKER.strip()}[ \t]*\n?(.*)|\A(?!(?:.*\n)?{RESPONSE_MARKER.strip()})(.*)"
"""what `bonsai.builder.prompt` calls the answer: behind the marker, or all where there is none"""
_README = """# BONSAI for the lm-evaluation-harness

Run inside this folder; the paths in the task files are relative to it. このフォルダーの中で実行してください。

```bash
lm_eval run --include_path . --tasks {tag} --model hf --model_args pretrained={base},peft={adapter}{bos}
```

`exact_match` is on the text behind `### Response:`, without case and marks; `chrf` is on the same text. The project's
own `evaluation.json` also folds numbers, units and articles, and has the scores that need more than two strings.
"""


def write_tasks(
    items: Sequence[EvalItem], folder: Path, *, base: str, adapter: str, max_new_tokens: int, bos: bool = False
) -> None:
    """Write the tasks into ``folder``, which is replaced as a whole.

    Args:
        base, adapter: repo ids, for the command in the README.
        max_new_tokens: as in the project's own evaluation.
        bos: whether the base's tokenizer puts a BOS before a prompt; the harness leaves it out unless told.
    """
    with atomic_replace_dir(folder) as fresh:
        for origin, name in _NAMES.items():
            asked = [item for item in items if item.origin == origin]
            if asked:
                rows = datasets.Dataset.from_list([_row(item) for item in asked])
                rows.to_parquet(fresh / f"{name}.parquet")
                text = yaml.safe_dump(_task(name, max_new_tokens), sort_keys=False, allow_unicode=True)
                (fresh / f"{name}.yaml").write_text(text, encoding="utf-8")
        told = _README.format(tag=TAG, base=base, adapter=adapter, bos=",add_bos_token=True" if bos else "")
        (fresh / "README.md").write_text(told, encoding="utf-8")


def _row(item: EvalItem) -> dict[str, str]:
    return {
        "id": item.id,
        "category": item.category,
        "language": item.spoken,
        "prompt": item.prompt,
        "reference": item.reference,
    }


def _task(name: str, max_new_tokens: int) -> dict[str, Any]:
    ignoring = {"ignore_case": True, "ignore_punctuation": True}
    return {
        "task": name,
        "tag": TAG,
        "dataset_path": "parquet",
        "dataset_kwargs": {"data_files": {"test": f"{name}.parquet"}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{prompt}}",
        "doc_to_target": "{{reference}}",
        "target_delimiter": "",
        "generation_kwargs": {
            "until": [INSTRUCTION_MARKER.strip()],
            "do_sample": GREEDY.temperature > 0,
            "max_gen_toks": max_new_tokens,
        },
        "filter_list": [
            {
                "name": "response",
                "filter": [
                    {"function": "regex", "regex_pattern": ANSWER, "fallback": ""},
                    {"function": "take_first"},
                ],
            }
        ],
        "metric_list": [
            {"metric": "exact_match", "aggregation": "mean", "higher_is_better": True, **ignoring},
            {"metric": "chrf", "aggregation": "chrf", "higher_is_better": True},
        ],
        "metadata": {"version": 1.0},
    }
