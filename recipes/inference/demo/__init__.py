"""A page to play with: ask, be led deeper, compare models, and read the dataset, in Japanese and English."""
