"""Train adapters from recipes."""
