"""Several models side by side: the same questions, several times each, who is stable and who answers like whom."""
