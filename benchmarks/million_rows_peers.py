"""The same work by datatrove or data-juicer; run by `million_rows.py` with the Python that has them installed.

    python million_rows_peers.py (datatrove|data-juicer) FOLDER MODEL

FOLDER holds ``in/00000.jsonl`` and ``in/00001.jsonl``, each row an id and its joined text, so that two processes share
the reading; MODEL is fastText's lid.176.ftz, because neither tool's own download is to be had everywhere. Written are
``kept.jsonl`` (id and language of each row kept) and ``seconds``, which leaves out imports.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

PROCESSES = 2


def run_datatrove(folder: Path, model: Path) -> float:
    """Exact deduplication, MinHash with its defaults (5-grams, 14 × 8) on characters, the language of what is left."""
    data = importlib.import_module("datatrove.data")
    executor = importlib.import_module("datatrove.executor")
    exact = importlib.import_module("datatrove.pipeline.dedup.exact_dedup")
    minhash = importlib.import_module("datatrove.pipeline.dedup.minhash")
    readers = importlib.import_module("datatrove.pipeline.readers")
    writers = importlib.import_module("datatrove.pipeline.writers.jsonl")
    tokenizers = importlib.import_module("datatrove.utils.word_tokenizers")
    fasttext = importlib.import_module("fasttext.FastText")

    class Characters(tokenizers.WordTokenizer):  # type: ignore[name-defined,misc]
        """Its default, English words, finds 6% of the Japanese near duplicates."""

        def word_tokenize(self, text: str) -> list[str]:
            return list(text)

        def sent_tokenize(self, text: str) -> list[str]:
            return [text]

        def span_tokenize(self, text: str) -> list[tuple[int, int]]:
            return [(0, len(text))]

    def languages(documents: Any, rank: int = 0, world_size: int = 1) -> Any:
        detector = fasttext._FastText(str(model))
        for document in documents:
            labels, _ = detector.predict(document.text.replace("\n", " "), k=1)
            document.metadata["language"] = labels[0].removeprefix("__label__")
            yield document

    def content(document: data.Document) -> str:  # type: ignore[name-defined]
        return str(document.text)

    def read() -> Any:
        return readers.JsonlReader(str(folder / "in"))

    settings = exact.ExactDedupConfig(content_getter=content)

    def once_only() -> Any:
        return exact.ExactDedupFilter(str(folder / "exact_found"), config=settings)

    bands = minhash.MinhashConfig()
    steps: list[tuple[list[Any], int]] = [
        ([read(), exact.ExactDedupSignature(str(folder / "exact"), config=settings)], PROCESSES),
        ([exact.ExactFindDedups(str(folder / "exact"), str(folder / "exact_found"), config=settings)], 1),
        ([read(), once_only(), minhash.MinhashDedupSignature(str(folder / "sig"), bands, Characters())], PROCESSES),
        ([minhash.MinhashDedupBuckets(str(folder / "sig"), str(folder / "buckets"), config=bands)], bands.num_buckets),
        ([minhash.MinhashDedupCluster(str(folder / "buckets"), str(folder / "remove"), config=bands)], 1),
        (
            [
                read(),
                once_only(),
                minhash.MinhashDedupFilter(str(folder / "remove")),
                languages,
                writers.JsonlWriter(str(folder / "out"), compression=None),
            ],
            PROCESSES,
        ),
    ]
    began = time.perf_counter()
    for number, (pipeline, tasks) in enumerate(steps):
        logs = str(folder / f"logs{number}")
        executor.LocalPipelineExecutor(pipeline, tasks=tasks, workers=min(tasks, PROCESSES), logging_dir=logs).run()
    seconds = time.perf_counter() - began
    with (folder / "kept.jsonl").open("w", encoding="utf-8") as file:
        for path in sorted((folder / "out").glob("*.jsonl")):
            for line in path.open(encoding="utf-8"):
                row = json.loads(line)
                file.write(json.dumps({"id": row["id"], "language": row["metadata"]["language"]}) + "\n")
    return seconds


def run_data_juicer(folder: Path, model: Path) -> float:
    """Exact deduplication, MinHash over characters with its other defaults, and the language of what is left."""
    cache = folder / "models"
    cache.mkdir()
    shutil.copy(model, cache / "lid.176.bin")
    os.environ["DATA_JUICER_MODELS_CACHE"] = str(cache)
    os.environ["HF_DATASETS_CACHE"] = str(folder / "cache")
    datasets = importlib.import_module("datasets")
    nested = importlib.import_module("data_juicer.core.data")
    exact = importlib.import_module("data_juicer.ops.deduplicator.document_deduplicator")
    minhash = importlib.import_module("data_juicer.ops.deduplicator.document_minhash_deduplicator")
    language = importlib.import_module("data_juicer.ops.filter.language_id_score_filter")
    operators = [
        exact.DocumentDeduplicator(num_proc=PROCESSES),
        minhash.DocumentMinhashDeduplicator(tokenization="character", num_proc=PROCESSES),
        language.LanguageIDScoreFilter(min_score=0.0, num_proc=PROCESSES),
    ]
    began = time.perf_counter()
    files = [str(path) for path in sorted((folder / "in").glob("*.jsonl"))]
    rows = nested.NestedDataset(datasets.load_dataset("json", data_files=files, split="train"))
    for operator in operators:
        rows = operator.run(rows)
    rows.to_json(str(folder / "out.jsonl"), force_ascii=False)
    seconds = time.perf_counter() - began
    with (folder / "kept.jsonl").open("w", encoding="utf-8") as file:
        for line in (folder / "out.jsonl").open(encoding="utf-8"):
            row = json.loads(line)
            file.write(json.dumps({"id": row["id"], "language": row["__dj__stats__"]["lang"]}) + "\n")
    return seconds


PEERS = {"datatrove": run_datatrove, "data-juicer": run_data_juicer}

if __name__ == "__main__":
    place = Path(sys.argv[2])
    (place / "seconds").write_text(str(PEERS[sys.argv[1]](place, Path(sys.argv[3]))))
