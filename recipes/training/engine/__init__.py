"""Speed up QLoRA training under TRL's SFTTrainer, in pieces that can be switched off one by one.

QLoRA (https://arxiv.org/abs/2305.14314) trains LoRA matrices (https://arxiv.org/abs/2106.09685) over a base in NF4.
Every piece has a plain twin (peft, transformers, TRL or torch.optim) that it is tested against. Nothing here needs more
than cuBLAS, bitsandbytes' dequantisation and PyTorch's memory-efficient attention, all of which run on sm75 (T4); no
bfloat16, no Triton, no FlashAttention, no torch.compile, no CUDA of our own.

Start at `bonsai.recipes.training.engine.trainer`. On a run's first batch the pieces are compared with the stock
modules (`bonsai.recipes.training.engine.self_check`); what differs is left out and named.
"""

RECORD_IDS_COLUMN = "record_ids"
"""key of a batch under which the collator passes the ids of its records to `EngineTrainer`; no tensor, never a column
of the dataset"""
