"""HfFileSystem, through which `datasets` and pandas read."""

import pytest
from huggingface_hub import HfApi, HfFileSystem

from bonsai.hub.server.serve import HubAddress


@pytest.fixture
def files(hub: HubAddress) -> HfFileSystem:
    return HfFileSystem(endpoint=hub.endpoint, token=hub.token, skip_instance_cache=True)


def test_files_are_listed_opened_sought_and_globbed(api: HfApi, dataset: str, files: HfFileSystem) -> None:
    content = bytes(range(256)) * 40_000
    api.upload_file(path_or_fileobj=content, path_in_repo="data/a.bin", repo_id=dataset, repo_type="dataset")
    api.upload_file(path_or_fileobj=b"text", path_in_repo="data/b.txt", repo_id=dataset, repo_type="dataset")
    root = f"datasets/{dataset}"
    assert set(files.ls(f"{root}/data", detail=False)) == {f"{root}/data/a.bin", f"{root}/data/b.txt"}
    assert files.glob(f"{root}/**/*.bin") == [f"{root}/data/a.bin"]
    assert files.info(f"{root}/data/a.bin")["size"] == len(content)
    with files.open(f"{root}/data/a.bin", block_size=1 << 16) as file:
        file.seek(5_000_000)
        assert file.read(10) == content[5_000_000:5_000_010]
        file.seek(-5, 2)
        assert file.read() == content[-5:]
    with files.open(f"{root}/data/a.bin", block_size=0) as stream:
        assert stream.read(3) == content[:3]
    assert files.read_text(f"{root}/data/b.txt") == "text"
    for missing in (f"{root}/none", f"{root}/data/none", "datasets/qeu/none/x"):
        with pytest.raises(FileNotFoundError):
            files.info(missing)


def test_files_are_written_copied_and_removed(api: HfApi, dataset: str, files: HfFileSystem) -> None:
    root = f"datasets/{dataset}"
    files.write_text(f"{root}/a.txt", "one")
    with files.open(f"{root}/b.bin", "wb") as file:
        file.write(b"\0" * 4000)
    files.cp_file(f"{root}/b.bin", f"{root}/copy/b.bin")
    files.rm(f"{root}/a.txt")
    assert sorted(api.list_repo_files(dataset, repo_type="dataset")) == [".gitattributes", "b.bin", "copy/b.bin"]
    files.rm(f"{root}/copy", recursive=True)
    assert sorted(api.list_repo_files(dataset, repo_type="dataset")) == [".gitattributes", "b.bin"]


def test_a_revision_stands_in_the_path(api: HfApi, dataset: str, files: HfFileSystem) -> None:
    root = f"datasets/{dataset}"
    files.write_text(f"{root}/a.txt", "one")
    api.create_branch(dataset, branch="dev/pine", repo_type="dataset")
    files.write_text(f"{root}/a.txt", "two")
    assert files.read_text(f"datasets/{dataset}@dev%2Fpine/a.txt") == "one"
    assert files.read_text(f"{root}/a.txt", revision="dev/pine") == "one"
