"""Publish to the Hugging Face Hub, or to a small one on this machine: to rehearse a release, or to work offline.

The real clients (huggingface_hub, datasets, transformers, peft, `hf`) use the local Hub unchanged; its API was read
from their source. Repositories are bare git repositories, large files are Git LFS objects beside them, and a commit is
one compare-and-swap of a branch, so an interrupted one changes nothing.

`bonsai.hub.server.serve` is the command, `bonsai.hub.server.serve.run_hub` the same as a context manager, and
`bonsai.hub.server.app.create_app` the ASGI application for any other server.

Xet is not supported. huggingface_hub 2.4 sends large uploads to Xet whenever `hf_xet` is installed and never asks the
server, so a client must set `HF_HUB_DISABLE_XET=1` before it is imported; `HubAddress.environment` holds that variable.
"""
