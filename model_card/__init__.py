"""Render and check the card of an adapter; imports nothing of its sibling packages."""
