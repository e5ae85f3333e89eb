"""Load the published dataset as a new user would: ``python -m bonsai.builder.verify REPO TAG``.

Run in a child process with a fresh HF_HOME and an empty working directory: a warm cache or a folder of the same name
would hide a broken release. Prints one JSON object:

    {"rows": 2310, "configs": {"default": 2310, "ja": 905, …}, "first_id": "open_qa-0001-ja", "seconds_default": 3.1}
"""

from __future__ import annotations

import json
import sys
import time

import datasets


def verify(repo_id: str, tag: str) -> dict[str, object]:
    """Load every config, a stream, and the tag.

    Returns:
        The number of rows in all and by config, the id of the first row, and how long the default config took.

    Raises:
        SystemExit: the stream or the tag gives other rows than the branch ``main``.
    """
    datasets.disable_progress_bars()
    started = time.perf_counter()
    default = datasets.load_dataset(repo_id)
    seconds = time.perf_counter() - started
    configs = {
        name: sum(datasets.load_dataset(repo_id, name).num_rows.values())
        for name in datasets.get_dataset_config_names(repo_id)
    }
    split = next(iter(default))  # a few records may leave even train empty
    first = next(iter(datasets.load_dataset(repo_id, split=split, streaming=True)))
    tagged = datasets.load_dataset(repo_id, revision=tag)
    if first["id"] != default[split][0]["id"] or tagged.num_rows != default.num_rows:
        raise SystemExit(f"{repo_id}: the stream or the tag {tag} differs from main")
    return {
        "rows": default.num_rows,
        "configs": configs,
        "first_id": first["id"],
        "seconds_default": round(seconds, 2),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(verify(sys.argv[1], sys.argv[2])) + "\n")
