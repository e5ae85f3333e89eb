"""Phi-2, translation step (post of 2024-04-10): adds J<->E translation and a little Chinese.

The post saw a loss that no longer fell monotonically and suspected contradictions in the data; Chinese test questions
were answered better than Japanese ones. The Reasoning is still the original one.
"""

from bonsai.recipes.training.recipe import Recipe

RECIPE = Recipe(
    repo_id="qeu/bonsai-phi2-translation",
    base_model="microsoft/phi-2",
    base_model_revision="ef382358ec9e382308935a992d908de099b64c23",
    base_model_license="mit",
    dataset_revision="v0.1.0",
    categories=("open_qa", "closed_qa", "classification", "brainstorming", "creative", "translation"),
    reasoning="original",
    target_modules=("q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2"),
    num_train_epochs=3,
    gradient_accumulation_steps=2,
    warmup_steps=10,
    eval_steps=15,
    early_stopping_patience=3,
    max_length=2048,
)
