"""Evaluate an adapter beside its base model, with intervals and paired tests."""
