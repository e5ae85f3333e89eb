from __future__ import annotations

import pytest
from huggingface_hub import HfApi

from bonsai.hub.publish import publish_files
from bonsai.hub.repo_files import folder_files
from bonsai.hub.server.serve import HubAddress
from tests.recipes.tiny import write_tiny_llama


@pytest.fixture(scope="session")
def tiny_base(far_hub: HubAddress, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tiny Llama on the far Hub."""
    folder = write_tiny_llama(tmp_path_factory.mktemp("tiny"))
    (folder / "README.md").write_text("---\nlicense: mit\n---\n\nRandom weights, for tests.\n")
    api = HfApi(endpoint=far_hub.endpoint, token=far_hub.token)
    pushed = publish_files(
        api, repo_id="qeu/tiny-llama", repo_type="model", files=folder_files(folder), message="tiny", tag="v1.0"
    )
    return pushed.repo_id
