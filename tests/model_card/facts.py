"""A whole set of facts, for cards with every section, and with none of those that may be missing."""

from __future__ import annotations

import dataclasses

from huggingface_hub import EvalResult

from bonsai.model_card.facts import (
    AdapterFacts,
    DiagnosisFacts,
    EvaluationFacts,
    LossRow,
    Price,
    ProbeRow,
    RecordLine,
    ScoreRow,
    Setting,
)

BARE = AdapterFacts(
    repo_id="me/bonsai-seedling",
    recipe_name="seedling",
    command="pip install nox && nox -s build && nox -s train -- seedling",
    license="apache-2.0",
    dataset_license="mit",
    base_model="me/base",
    base_model_revision="v1.0",
    base_model_commit="b" * 40,
    dataset="me/bonsai",
    dataset_revision="v0.1.0",
    dataset_commit="d" * 40,
    dataset_content_hash="c" * 64,
    languages=("ja", "en"),
    categories=("open_qa", "classification"),
    rows_by_category=None,
    settings=(
        Setting("LoRA", "r", 8),
        Setting("LoRA", "target_modules", ["q_proj", "v_proj"]),
        Setting("quantisation", "bnb_4bit_use_double_quant", True),
        Setting("trainer", "max_length", 640),
        Setting("trainer", "seed", 42),
    ),
    losses=[LossRow(n, 4 - n / 20, 1e-3, 300 * n) for n in range(1, 41)],
    evaluations={},
    validation_loss_before=3.5,
    validation_loss_after=2.25,
    train_rows=100,
    validation_rows=10,
    kept_step=None,
    seconds=100.0,
    peak_memory_gib=2.0,
    device="Radeon",
    compute_dtype="float32",
    engine=None,
    price=None,
    trainable_parameters=1_234_567,
    adapted_modules=("q_proj", "v_proj"),
    versions={"torch": "2.13.0", "transformers": "5.23.0", "peft": "0.21.2"},
    python="3.11.7",
    constraints_sha256=None,
    prompt="### Instruction:\nWhich river?\n\n### Reasoning:",
    samples=(),
    lengths_by_category=None,
    machine=None,
    passes=None,
    arguments=False,
    tag="v0.1.0",
    gguf=None,
)

FULL = dataclasses.replace(
    BARE,
    rows_by_category={"open_qa": {"ja": 30, "en": 30}, "classification": {"ja": 20, "en": 20}},
    evaluations={10: 3.0, 20: 2.5, 40: 2.25},
    kept_step=40,
    device="Tesla T4",
    engine="bonsai engine 1",
    price=Price(usd_per_hour=0.40, source="a price list"),
    constraints_sha256="e" * 64,
    samples=("### Instruction:\nTODO: which | river?\n```\n{{ name }}\n```\n\n### Response:\nNone.", "Second."),
    lengths_by_category={"open_qa": (31, 120.4, 260), "classification": (40, 99.0, 180)},
    machine="A processor, 2 cores, 13 GiB of memory",
    passes=0.92,
    arguments=True,
    gguf="bonsai-seedling-f16.gguf",
    generators={"a language model": 100},
    diagnosis=DiagnosisFacts(
        english=("The smoothed loss falls monotonically within its noise, 3.80 -> 2.10.",),
        japanese=("平滑化した損失は、ばらつきの範囲内で単調に下がりました（3.80 -> 2.10）。",),
        highest=(
            RecordLine("open_qa-0067-en", "open_qa.jsonl:67", 2.75, ("contradiction: Nickel | Chromium",)),
            RecordLine("open_qa-0068-en", "", 2.5, ()),
        ),
        measured=90,
    ),
    evaluation=EvaluationFacts(
        adapter_sha256="f" * 64,
        generation_settings="greedy, 96 new tokens",
        interval=0.95,
        scores=(
            ScoreRow("open_qa", "ja", "F1", 12, 0.25, 0.5, (0.05, 0.45)),
            ScoreRow("classification", "en", "label right", 9, 0.6, 0.5, None),
        ),
        probes=(
            ProbeRow("日本で一番高い山は？", "富士山", "エベレスト | None", "富士山です。", False, True),
            ProbeRow("Tell a story.", "", "Once\nupon a time", "Once " * 100, None, None),
        ),
        results=(
            EvalResult(
                task_type="text-generation",
                dataset_type="me/bonsai",
                dataset_name="me/bonsai test",
                dataset_config="default",
                dataset_split="test",
                dataset_revision="d" * 40,
                metric_type="f1",
                metric_name="F1 (open_qa, ja, 12 questions)",
                metric_value=0.5,
            ),
        ),
    ),
)
