"""Draw what benchmarks/engine.py measured: docs/engine.png.

python benchmarks/engine_plot.py benchmarks/results/engine_h100.json docs/engine.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

CLASSES = {"gemm": "#2f6b3a", "attention": "#b5532a", "element-wise": "#9db8a0", "dequantisation": "#c9a227"}
ENDS = {"trl packed": "TRL packed", "+ graph": "all pieces but the last", "+ spare_memory": "all pieces"}
NAMES = {"phi2": "Phi-2", "phi3": "Phi-3-mini", "llama": "a Llama of 3B"}


def label(row: dict[str, Any]) -> str:
    return str(row["variant"] if row["shape"] == "phi2" else ENDS[row["variant"]])


def draw(measured: dict[str, Any], path: Path) -> None:
    rows = [row for row in measured["results"] if row["shape"] == "phi2" and "tokens_per_s" in row]
    rows += [row for row in measured["results"] if row["shape"] != "phi2" and row["variant"] in ENDS]
    labels = [f"{NAMES[row['shape']]}: {label(row)}" for row in rows]
    figure = Figure(figsize=(11, 0.42 * len(rows) + 1.6), layout="constrained")
    FigureCanvasAgg(figure)
    speed, kernels = figure.subplots(1, 2, sharey=True)
    places = range(len(rows))
    colours = ["#2f6b3a" if row["variant"].startswith("+") else "#888888" for row in rows]
    bars = speed.barh(places, [row["tokens_per_s"] for row in rows], color=colours)
    speed.bar_label(bars, [f"{row['tokens_per_s']:,}  ({row['peak_gib']} GiB)" for row in rows], padding=3, fontsize=8)
    speed.set(yticks=list(places), yticklabels=labels, xlabel="useful tokens a second, end to end", xlim=(0, 40_000))
    speed.invert_yaxis()
    left = [0.0] * len(rows)
    for name, colour in CLASSES.items():
        spent = [row["by_class_ms"].get(name, 0.0) / row["tokens_a_step"] * 1000 for row in rows]
        kernels.barh(places, spent, left=left, color=colour, label=name)
        left = [before + now for before, now in zip(left, spent, strict=True)]
    kernels.set(xlabel="GPU kernels, ms for 1,000 useful tokens")
    kernels.legend(frameon=False, fontsize=8)
    for axes in (speed, kernels):
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(
        f"{measured['device']}, {measured['date'][:10]}, float16, 15 GiB, no flash attention: not a T4", size=10
    )
    figure.savefig(path, dpi=130, metadata={"Software": None})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("measured", type=Path)
    parser.add_argument("picture", type=Path)
    arguments = parser.parse_args()
    draw(json.loads(arguments.measured.read_text()), arguments.picture)
