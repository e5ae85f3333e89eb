"""Published adapters: one recipe module each; the folder is the registry."""
