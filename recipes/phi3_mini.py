"""Phi-3-mini: the next base, announced in the post of 2024-04-24; everything else stays nearly unchanged.

Its own chat markers are not used: the prompt is plain text as with Phi-2, so that the adapters can be compared.
"""

from bonsai.recipes.training.recipe import Recipe

RECIPE = Recipe(
    repo_id="qeu/bonsai-phi3-mini",
    base_model="microsoft/Phi-3-mini-4k-instruct",
    base_model_revision="0a67737cc96d2554230f90338b163bc6380a2a85",
    base_model_license="mit",
    dataset_revision="v0.1.0",
    target_modules=("qkv_proj", "o_proj", "gate_up_proj", "down_proj"),
    num_train_epochs=3,
    gradient_accumulation_steps=2,
    warmup_steps=10,
    eval_steps=15,
    early_stopping_patience=3,
    max_length=2048,
)
