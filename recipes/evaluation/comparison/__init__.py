"""Compare the answers of several models to the same questions."""
