"""Estimate memory, time and cost of a recipe before anything is downloaded, and without torch."""
