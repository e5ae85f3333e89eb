"""A small Hugging Face Hub on this machine: the rehearsal of a release, and the default when there is no network.

The real clients (huggingface_hub, datasets, transformers, peft, `hf`) talk to it unchanged; what they send and expect
was read from their own source. Repositories are bare git repositories, large files are Git LFS objects beside them, and
every commit is one compare-and-swap of a branch, so that a commit cut off in the middle never happened.

`bonsai.hub.server.serve` is the command, `bonsai.hub.server.serve.run_hub` the same as a context manager, and
`bonsai.hub.server.app.create_app` the ASGI application for those who bring their own server.

Xet is not spoken here. huggingface_hub 2.4 sends large uploads to Xet whenever `hf_xet` is installed and never asks the
server, so a client must set `HF_HUB_DISABLE_XET=1` before it is imported; `HubAddress.environment` holds that variable.
"""
