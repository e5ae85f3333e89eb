"""The side that publishes: which Hub, one atomic push, and a stranger who loads it back."""
