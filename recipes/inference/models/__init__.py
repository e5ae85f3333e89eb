"""Every kind of model behind the one interface `Engine`: here, behind an address, or as GGUF."""
