"""Serve a local Hub that huggingface_hub, datasets, transformers and git-lfs use unchanged."""
