"""Write task files for the LM Evaluation Harness.

The folder gets a Parquet file and a YAML file for each task, and a README with the command. The prompts are rendered
here, so the harness asks in the same words as `bonsai evaluate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import datasets
import yaml

from bonsai.builder.assets import load_text
from bonsai.builder.files import atomic_replace_dir, atomic_write_text
from bonsai.builder.prompt import INSTRUCTION_MARKER, RESPONSE_MARKER
from bonsai.recipes.evaluation.items import EvalItem
from bonsai.recipes.inference.generation import GREEDY

FOLDER = "lm_eval"
TAG = "bonsai"
TASKS = {"test": "bonsai_test", "probe": "bonsai_probes"}
"""task names by the origin of their items"""
ANSWER = rf"(?s)(?:\A|\n){RESPONSE_MARKER.strip()}[ \t]*\n?(.*)|\A(?!(?:.*\n)?{RESPONSE_MARKER.strip()})(.*)"
"""the answer as `bonsai.builder.prompt` parses it: the text after the marker, or all of it if there is no marker"""


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
    shared = yaml.safe_load(load_text(__package__, "lm_eval.yaml"))
    shared["generation_kwargs"] = {
        "until": [INSTRUCTION_MARKER.strip()],
        "do_sample": GREEDY.temperature > 0,
        "max_gen_toks": max_new_tokens,
    }
    shared["filter_list"][0]["filter"][0]["regex_pattern"] = ANSWER

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
            atomic_write_text(fresh / f"{name}.yaml", text)

        # 3. Say how to run them.
        readme = load_text(__package__, "lm_eval.md").format(
            tag=TAG, base=base, adapter=adapter, bos=",add_bos_token=True" if bos else ""
        )
        atomic_write_text(fresh / "README.md", readme)
