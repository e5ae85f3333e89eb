"""What the loss of a run says, in words: its course and spikes, the validation loss, the records it stumbles over."""
