"""Text out of prompts: one small interface, batched."""
