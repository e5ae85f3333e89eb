"""Phi-2, Question-to-Question step: the improvement announced in the post of 2024-05-07.

There the Reasoning disappeared and the questions went in circles instead of deeper. This recipe uses all seven
categories, with chains of three to five questions, each deeper than the last.
"""

from bonsai.recipes.training.recipe import Recipe

RECIPE = Recipe(
    repo_id="qeu/bonsai-phi2-qtq",
    base_model="microsoft/phi-2",
    base_model_revision="ef382358ec9e382308935a992d908de099b64c23",
    base_model_license="mit",
    dataset_revision="v0.1.0",
    target_modules=("q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2"),
    num_train_epochs=3,
    gradient_accumulation_steps=2,
    warmup_steps=10,
    eval_steps=15,
    early_stopping_patience=3,
    max_length=2048,
)
