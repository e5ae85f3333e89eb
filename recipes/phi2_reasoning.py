"""Phi-2, reasoning step (post of 2024-04-24): more than a third of the records get an improved Reasoning.

The post saw a slightly higher training loss ("what is to be learnt has become harder"). The records are those of the
translation step, so the two adapters differ only in the Reasoning.
"""

from bonsai.recipes.training.recipe import Recipe

RECIPE = Recipe(
    repo_id="qeu/bonsai-phi2-reasoning",
    base_model="microsoft/phi-2",
    base_model_revision="ef382358ec9e382308935a992d908de099b64c23",
    base_model_license="mit",
    dataset_revision="v0.1.0",
    categories=("open_qa", "closed_qa", "classification", "brainstorming", "creative", "translation"),
    reasoning="improved",
    target_modules=("q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2"),
    num_train_epochs=3,
    gradient_accumulation_steps=2,
    warmup_steps=10,
    eval_steps=15,
    early_stopping_patience=3,
    max_length=2048,
)
