"""What each piece of the training engine gives: the same weights and records through TRL as it is and through ours.

    python benchmarks/engine.py --shape phi2 --out benchmarks/results/engine_h100.json     # on a GPU
    python benchmarks/engine.py --shape tiny                                               # logic only, on a CPU

Weights and tokens are random, the records' lengths are the dataset's. A GPU of any kind is held to what a T4 has:
float16, 15 GiB, no flash and no cuDNN attention. That imitates a T4's limits, not its speed.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import subprocess
import tempfile
import time
from collections import Counter
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import datasets
import torch
from bitsandbytes.nn import Linear4bit
from peft import LoraConfig
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer, models
from torch.profiler import ProfilerActivity, profile
from transformers import (
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    LlamaConfig,
    Phi3Config,
    PhiConfig,
    PreTrainedTokenizerFast,
    TrainerCallback,
)
from trl import SFTConfig

from bonsai.recipes.training.engine.install import EngineOptions
from bonsai.recipes.training.engine.trainer import EngineTrainer

LENGTHS = Path(__file__).parent / "results" / "engine_record_lengths.json"
GPU = torch.cuda.is_available()
SHAPES: dict[str, Any] = {
    "phi2": lambda: PhiConfig(
        vocab_size=51200, hidden_size=2560, intermediate_size=10240, num_hidden_layers=32, num_attention_heads=32,
        max_position_embeddings=2048, partial_rotary_factor=0.4, resid_pdrop=0.1,
    ),
    "phi3": lambda: Phi3Config(
        vocab_size=32064, hidden_size=3072, intermediate_size=8192, num_hidden_layers=32, num_attention_heads=32,
        max_position_embeddings=4096, sliding_window=2047, pad_token_id=2,
    ),
    "llama": lambda: LlamaConfig(
        vocab_size=128256, hidden_size=3072, intermediate_size=8192, num_hidden_layers=28, num_attention_heads=24,
        num_key_value_heads=8, max_position_embeddings=4096, tie_word_embeddings=True,
    ),
    "llama_13b": lambda: LlamaConfig(
        vocab_size=32000, hidden_size=5120, intermediate_size=13824, num_hidden_layers=40, num_attention_heads=40,
        max_position_embeddings=4096,
    ),
    "tiny": lambda: PhiConfig(
        vocab_size=512, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=2048, partial_rotary_factor=0.5, resid_pdrop=0.1,
    ),
}  # fmt: skip
STOCK: dict[str, dict[str, Any]] = {
    "trl default, batch 4": {"packing": False, "per_device_train_batch_size": 4, "optim": "paged_adamw_8bit"},
    "trl packed": {},
    "trl packed, other kernel": {},
    "trl packed, selective": {"gradient_checkpointing_kwargs": {"selective": True}},
}
PIECES = tuple(piece.name for piece in fields(EngineOptions))


def variants() -> dict[str, EngineOptions | None]:
    """Stock ones (None), then ours with one piece more each time."""
    made: dict[str, EngineOptions | None] = dict.fromkeys(STOCK)
    on = dict.fromkeys(PIECES, False)
    for piece in PIECES:
        on[piece] = True
        made[f"+ {piece}"] = EngineOptions(**on)
    return made


def base_model(shape: str, folder: Path) -> Any:
    """Random weights, quantised to NF4 as a user's would be."""
    save_random(shape, folder)
    return quantised(folder)


def save_random(shape: str, folder: Path) -> None:
    """A base in float16 with random weights, never zeros."""
    config = SHAPES[shape]()
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float16 if GPU else torch.float32)
    with torch.device("cuda" if GPU else "cpu"):
        model = AutoModelForCausalLM.from_config(config)
    torch.set_default_dtype(torch.float32)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.data.normal_(0, 0.02)
        elif "norm" in name:
            parameter.data.normal_(1, 0.1)
    model.save_pretrained(folder)
    del model
    freed()


def quantised(folder: Path, storage: torch.dtype = torch.uint8) -> Any:
    """The base in NF4.

    Args:
        storage: what its bytes are called; FSDP cuts up floats only.
    """
    dtype = torch.float16 if GPU else torch.float32
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=dtype,
        attn_implementation="sdpa",
        device_map={"": torch.cuda.current_device()} if GPU else None,
        quantization_config=BitsAndBytesConfig(  # type: ignore[no-untyped-call]
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
            bnb_4bit_quant_storage=storage,
        ),
    )
    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False
    return model


def records(vocabulary: int) -> datasets.Dataset:
    """The dataset's lengths with random tokens, small ones more often, so that there is something to learn."""
    lengths = json.loads(LENGTHS.read_text())["records"]
    generator = torch.Generator().manual_seed(0)
    rows = []
    for prompt, completion in lengths:
        drawn = torch.rand(prompt + completion - 1, generator=generator).pow(4) * (vocabulary - 10)
        rows.append(
            {
                "input_ids": [*(drawn.long() + 5).tolist(), 1],
                "completion_mask": [0] * prompt + [1] * completion,
            }
        )
    return datasets.Dataset.from_list(rows)


def tokenizer(vocabulary: int) -> Any:
    inner = Tokenizer(models.WordLevel({f"t{number}": number for number in range(vocabulary)}, unk_token="t0"))
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="t1", pad_token="t2")


class Watch(TrainerCallback):
    """Wall time and tokens of each step, and the kernels of one."""

    def __init__(self, profiled: int | None) -> None:
        self.times: list[float] = []
        self.tokens: list[int] = []
        self.kernels: dict[str, Any] = {}
        self._profiled = profiled
        self._profiler: Any = None

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if GPU and state.global_step == self._profiled:
            self._profiler = profile(activities=[ProfilerActivity.CUDA])
            self._profiler.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if GPU:
            torch.cuda.synchronize()
        if self._profiler is not None:
            self._profiler.stop()
            self.kernels = by_class(self._profiler)
            self._profiler = None
        self.times.append(time.perf_counter())
        self.tokens.append(state.num_input_tokens_seen)

    def tokens_per_second(self, skip: int, end: int) -> float:
        return (self.tokens[end] - self.tokens[skip]) / (self.times[end] - self.times[skip])


def by_class(profiler: Any) -> dict[str, Any]:
    """Milliseconds by class of kernel, and launches."""
    spent: Counter[str] = Counter()
    names: Counter[str] = Counter()
    launches = 0
    for event in profiler.events():
        if event.device_type == torch.autograd.DeviceType.CUDA and "nvtx" not in event.name.lower():
            launches += 1
            spent[kernel_class(event.name.lower())] += event.device_time_total / 1e3
            names[event.name[:100]] += event.device_time_total / 1e3
    return {
        "launches": launches,
        "kernel_ms": round(sum(spent.values()), 1),
        "by_class_ms": {name: round(value, 1) for name, value in spent.most_common()},
        "top": {name: round(value, 2) for name, value in names.most_common(12)},
    }


def kernel_class(name: str) -> str:
    if any(part in name for part in ("fmha", "attention", "flash", "sdpa")):
        return "attention"
    if "dequant" in name:
        return "dequantisation"
    if any(part in name for part in ("gemm", "cutlass", "nvjet", "xmma", "cublas", "splitk", "gemv")):
        return "gemm"
    return "copies" if name.startswith(("memcpy", "memset")) else "element-wise"


def run(
    base: Any, name: str, pieces: EngineOptions | None, steps: int, work: Path, *, once: bool = False, **changes: Any
) -> dict[str, Any]:
    """Train ``steps`` steps end to end, then give the base back as it was.

    Args:
        once: the base is not needed again.
        changes: to TRL's settings.
    """
    vocabulary = base.config.vocab_size
    phi2 = base.config.model_type == "phi"
    settings = {
        "output_dir": str(work), "use_cpu": not GPU, "fp16": GPU, "bf16": False, "max_steps": steps,
        "learning_rate": 2e-4, "optim": "adamw_torch", "per_device_train_batch_size": 1, "packing": True,
        "max_length": 2048, "completion_only_loss": True, "logging_steps": 1, "save_strategy": "no", "report_to": [],
        "disable_tqdm": True, "include_num_input_tokens_seen": "non_padding", "seed": 42, "data_seed": 42,
        "dataloader_pin_memory": GPU, **STOCK.get(name, {}), **changes,
    }  # fmt: skip
    trainer = EngineTrainer(
        base,
        SFTConfig(**settings),
        train_dataset=records(vocabulary),
        processing_class=tokenizer(vocabulary),
        peft_config=LoraConfig(
            r=16,
            lora_alpha=32,
            target_modules=["q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2"] if phi2 else "all-linear",
            task_type="CAUSAL_LM",
        ),
    )
    model: Any = trainer.model
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    installed = None if pieces is None else trainer.use_engine(pieces)
    watch = Watch(steps - 2)
    trainer.add_callback(watch)
    freed()
    if GPU:
        torch.cuda.reset_peak_memory_stats()
    try:
        trainer.train()
    finally:
        if installed is not None:
            installed.uninstall()
        trainer.optimizer = trainer.lr_scheduler = None
        if not once:
            restored(base, model)
    return {
        "variant": name,
        "steps": steps,
        "tokens_per_s": round(watch.tokens_per_second(min(4, steps // 3), max(steps - 4, steps // 2))),
        "tokens_a_step": round(watch.tokens[-1] / steps),
        "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2) if GPU else None,
        "peak_reserved_gib": round(torch.cuda.max_memory_reserved() / 2**30, 2) if GPU else None,
        **watch.kernels,
        "losses": [round(entry["loss"], 5) for entry in trainer.state.log_history if "loss" in entry],
    }


def restored(base: Any, model: Any) -> None:
    base.disable_input_require_grads()
    if base.is_gradient_checkpointing:
        getattr(base, "activation_checkpointing_disable", base.gradient_checkpointing_disable)()
    for patched in ("forward", "gradient_checkpointing_enable", "activation_checkpointing_enable"):
        base.__dict__.pop(patched, None)
    model.unload()
    freed()


def freed() -> None:
    gc.collect()
    if GPU:
        torch.cuda.empty_cache()


def as_on_a_t4() -> None:
    torch.backends.cuda.enable_flash_sdp(False)
    torch.backends.cuda.enable_cudnn_sdp(False)
    memory = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, 15 * 2**30 / memory))


def commit() -> str:
    done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown: no git checkout here"


def shown(results: list[dict[str, Any]], console: Console) -> None:
    table = Table("shape", "variant", "tokens/s", "peak GiB", "kernel ms", "launches", "by class, ms", "last loss")
    for row in results:
        table.add_row(
            row["shape"], row["variant"], f"{row.get('tokens_per_s', 0):,}", str(row.get("peak_gib")),
            str(row.get("kernel_ms")), str(row.get("launches")), str(row.get("by_class_ms", row.get("failed"))),
            str(row.get("losses", ["-"])[-1:]),
        )  # fmt: skip
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", nargs="+", default=["phi2"], choices=SHAPES)
    parser.add_argument("--only", nargs="*", choices=variants(), help="default: all")
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--stock-steps", type=int, default=12)
    parser.add_argument("--warmup", type=int, default=0, help="optimizer steps, as a recipe has them")
    parser.add_argument("--no-dropout", action="store_true", help="so that losses can be compared to the last digit")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    console = Console(width=200)
    if GPU:
        as_on_a_t4()
    head = {
        "device": torch.cuda.get_device_name() if GPU else "CPU", "cap_gib": 15,
        "date": datetime.now(UTC).isoformat(timespec="seconds"), "commit": commit(), "torch": torch.__version__,
        "note": "random weights; a T4's limits imitated on another GPU, not a T4",
    }  # fmt: skip
    results: list[dict[str, Any]] = []
    logging.basicConfig(level=logging.WARNING)
    logging.getLogger("bonsai").setLevel(logging.INFO)
    with tempfile.TemporaryDirectory() as work:
        for shape in arguments.shape:
            base = base_model(shape, Path(work) / shape)
            if arguments.no_dropout:
                for module in base.modules():
                    if isinstance(module, torch.nn.Dropout):
                        module.p = 0.0
            for name, pieces in variants().items():
                if arguments.only and name not in arguments.only:
                    continue
                steps = arguments.stock_steps if pieces is None else arguments.steps
                if GPU:  # the loss of stock TRL with a T4-less attention kernel shows what rounding alone changes
                    torch.backends.cuda.enable_cudnn_sdp("other kernel" in name)
                try:
                    row = run(base, name, pieces, steps, Path(work) / "out", warmup_steps=arguments.warmup)
                except (RuntimeError, ValueError, TypeError) as error:  # out of memory is one; TRL's selective another
                    row = {"variant": name, "failed": f"{type(error).__name__}: {str(error)[:200]}"}
                results.append({"shape": shape, **row})
                console.print({key: value for key, value in results[-1].items() if key not in ("losses", "top")})
                if arguments.out:
                    arguments.out.write_text(json.dumps({**head, "results": results}, indent=1) + "\n")
            del base
            freed()
    shown(results, console)


if __name__ == "__main__":
    main()
