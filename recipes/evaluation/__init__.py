"""What a step of training changed, measured: before and after, with intervals."""
