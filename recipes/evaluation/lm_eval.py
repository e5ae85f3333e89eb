"""Write task files for the LM Evaluation Harness.

The folder gets a Parquet file and a YAML file for each task, and a README with the command. The prompts are rendered
here, so the harness asks in the same words as `bonsai evaluate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import datasets
import yaml

from bonsai.builder.files import atomic_replace_dir
from bonsai.builder.prompt import INSTRUCTION_MARKER, RESPONSE_MARKER
from bonsai.recipes.evaluation.items import EvalItem
from bonsai.recipes.inference.generation import GREEDY

FOLDER = "lm_eval"
TAG = "bonsai"
TASKS = {"test": "bonsai_test", "probe": "bonsai_probes"}
"""task names by the origin of their items"""
ANSWER = rf"(?s)(?:\A|\n){RESPONSE_MARKER.strip()}[ \t]*\n?(.*)|\A(?!(?:.*\n)?{RESPONSE_MARKER.strip()})(.*)"
"""the answer as `bonsai.builder.prompt` parses it: the text after the marker, or all of it if there is no marker"""
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
        bos: whether the base's tokenizer puts a BOS before a prompt; the harness adds none by default.
    """
    # 1. Configure what all tasks share.
    ignore = {"ignore_case": True, "ignore_punctuation": True}
    shared = {
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
            {"metric": "exact_match", "aggregation": "mean", "higher_is_better": True, **ignore},
            {"metric": "chrf", "aggregation": "chrf", "higher_is_better": True},
        ],
        "metadata": {"version": 1.0},
    }

    # 2. Write the rows and the configuration of each task that has items.
    with atomic_replace_dir(folder) as fresh:
        for origin, name in TASKS.items():
            rows = [
                {
                    "id": item.id,
                    "category": item.category,
                    "language": item.language_pair,
                    "prompt": item.prompt,
                    "reference": item.reference,
                }
                for item in items
                if item.origin == origin
            ]
            if not rows:
                continue
            datasets.Dataset.from_list(rows).to_parquet(fresh / f"{name}.parquet")
            data = {"dataset_path": "parquet", "dataset_kwargs": {"data_files": {"test": f"{name}.parquet"}}}
            text = yaml.safe_dump({"task": name, "tag": TAG, **data, **shared}, sort_keys=False, allow_unicode=True)
            (fresh / f"{name}.yaml").write_text(text, encoding="utf-8")

        # 3. Say how to run them.
        readme = _README.format(tag=TAG, base=base, adapter=adapter, bos=",add_bos_token=True" if bos else "")
        (fresh / "README.md").write_text(readme, encoding="utf-8")
