"""Phi-2, category step: the first one, which the post of 2024-04-10 calls "the task before".

The post added category tags to Japanese and English records and saw inference improve a little. This recipe contains no
translation, no Chinese and no improved Reasoning, so that later steps can be measured against it.
"""

from bonsai.recipes.training.recipe import Recipe

RECIPE = Recipe(
    repo_id="qeu/bonsai-phi2-category",
    base_model="microsoft/phi-2",
    base_model_revision="ef382358ec9e382308935a992d908de099b64c23",
    base_model_license="mit",
    dataset_revision="v0.1.0",
    categories=("open_qa", "closed_qa", "classification", "brainstorming", "creative"),
    languages=("ja", "en"),
    reasoning="original",
    target_modules=("q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2"),
    num_train_epochs=3,
    gradient_accumulation_steps=2,
    warmup_steps=10,
    eval_steps=15,
    early_stopping_patience=3,
    max_length=2048,
)
