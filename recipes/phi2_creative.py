"""Phi-2, creative step: the model that the post of 2024-05-07 calls "Unsloth_creative" and asks the first questions.

The post does not say what it was trained on; here it is brainstorming and creative, with the open questions they build
on. There the Reasoning disappeared from the answers; here the prompt keeps its marker.
"""

from bonsai.recipes.training.recipe import Recipe

RECIPE = Recipe(
    repo_id="qeu/bonsai-phi2-creative",
    base_model="microsoft/phi-2",
    base_model_revision="ef382358ec9e382308935a992d908de099b64c23",
    base_model_license="mit",
    dataset_revision="v0.1.0",
    categories=("open_qa", "brainstorming", "creative"),
    target_modules=("q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2"),
    num_train_epochs=3,
    gradient_accumulation_steps=2,
    warmup_steps=10,
    eval_steps=15,
    early_stopping_patience=3,
    max_length=2048,
)
