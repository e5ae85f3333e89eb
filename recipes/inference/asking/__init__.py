"""A question answered with its Reasoning, in one pass where that is enough and in two where it is not."""
