"""Render the card of the dataset; imports nothing of its sibling packages."""
