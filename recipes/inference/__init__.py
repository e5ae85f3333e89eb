"""Asking an adapter: engines, and what is built upon them."""
