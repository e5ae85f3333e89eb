"""A faster QLoRA step under TRL's SFTTrainer, in pieces that can be taken out one by one.

Every piece has a plain twin (peft, transformers, TRL or torch.optim) that it is tested against. Nothing in here needs
more than cuBLAS, bitsandbytes' dequantisation and PyTorch's memory-efficient attention, which all run on sm75; no
bfloat16, no Triton, no FlashAttention, no torch.compile, no CUDA of our own.

`bonsai.recipes.training.engine.trainer` is the way in. On a run's first batch the pieces are compared with the stock
modules, each record alone (`bonsai.recipes.training.engine.self_check`); what differs is left out and named.
"""
