"""Several models asked the same questions, side by side."""
