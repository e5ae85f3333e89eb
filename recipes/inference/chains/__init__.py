"""Question to question: chains that are led deeper, many at a time, and that end rather than go in circles."""
