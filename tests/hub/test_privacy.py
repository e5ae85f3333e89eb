"""Permissions of owners, guests and anonymous users."""

from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from huggingface_hub.hf_api import RepoFile

from tests.hub.raw_client import RawClient


@pytest.fixture
def private(api: HfApi, new_name: Callable[[], str]) -> str:
    name = new_name()
    api.create_repo(name, private=True)
    api.upload_file(path_or_fileobj=b"secret", path_in_repo="a.txt", repo_id=name)
    api.upload_file(path_or_fileobj=b"\0secret", path_in_repo="a.bin", repo_id=name)
    return name


def test_a_private_repository_does_not_exist_for_others(
    api: HfApi, guest: HfApi, anonymous: HfApi, private: str, tmp_path: Path
) -> None:
    assert api.model_info(private).private is True
    for stranger in (guest, anonymous):
        with pytest.raises(RepositoryNotFoundError):
            stranger.model_info(private)
        with pytest.raises(RepositoryNotFoundError):
            stranger.hf_hub_download(private, "a.txt", cache_dir=tmp_path)
        with pytest.raises(RepositoryNotFoundError):
            stranger.list_repo_files(private)
        assert private not in [found.id for found in stranger.list_models()]
    assert private in [found.id for found in api.list_models()]
    api.update_repo_settings(private, private=False)
    assert anonymous.model_info(private).private is False
    api.update_repo_settings(private, visibility="private")
    assert not anonymous.repo_exists(private)


def test_every_address_of_a_private_repository_is_closed(ask: RawClient, private: str) -> None:
    reading = ["", "/refs", "/commits/main", "/tree/main", "/revision/main", "/auth-check"]
    addresses = [("GET", f"/api/models/{private}{end}") for end in reading]
    addresses += [("POST", f"/api/models/{private}/paths-info/main")]
    addresses += [("GET", f"/{private}/{how}/main/a.txt") for how in ("resolve", "raw")]
    for method, path in addresses:
        for token in (None, "hf_test_guest"):
            answer = ask(method, path, b"", token=token)
            assert (answer.status, answer.headers["x-error-code"]) == (404, "RepoNotFound"), path
    body = {"operation": "download", "objects": []}
    assert ask("POST", f"/{private}.git/info/lfs/objects/batch", body, token="hf_test_guest").status == 404


def test_a_token_nobody_has_is_refused_even_where_none_is_needed(ask: RawClient, api: HfApi, model: str) -> None:
    for authorization in ("Bearer hf_wrong", "Bearer", "Basic cWV1OmhmX3Rlc3RfcWV1", "Bearer hf_test_qeuX"):
        answer = ask("GET", f"/api/models/{model}", headers={"Authorization": authorization}, token=None)
        assert (answer.status, answer.error) == (401, "Invalid credentials in Authorization header")
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        HfApi(endpoint=api.endpoint, token="hf_wrong").whoami()
    assert api.whoami()["name"] == "qeu"


def test_nobody_writes_into_the_namespace_of_another(guest: HfApi, anonymous: HfApi, api: HfApi, model: str) -> None:
    attempts: list[Callable[[], object]] = [
        lambda: guest.create_repo("qeu/mine"),
        lambda: guest.upload_file(path_or_fileobj=b"x", path_in_repo="a.txt", repo_id=model),
        lambda: guest.delete_repo(model),
        lambda: guest.update_repo_settings(model, private=True),
        lambda: guest.create_branch(model, branch="b"),
        lambda: guest.create_tag(model, tag="t"),
        lambda: guest.super_squash_history(model),
        lambda: guest.move_repo(model, "guest/stolen"),
        lambda: api.move_repo(model, "guest/given"),
        lambda: guest.auth_check(model, write=True),
    ]
    for attempt in attempts:
        with pytest.raises(HfHubHTTPError, match="have no right to write into the namespace") as refused:
            attempt()
        assert refused.value.response.status_code == 403
    guest.auth_check(model)
    with pytest.raises(HfHubHTTPError) as nobody:
        anonymous.create_repo("qeu/mine")
    assert nobody.value.response.status_code == 401
    assert api.list_repo_files(model) == [".gitattributes"]


def test_knowing_a_hash_does_not_give_access_to_the_file(
    ask: RawClient, api: HfApi, private: str, guest: HfApi
) -> None:
    found = api.get_paths_info(private, ["a.bin"])[0]
    assert isinstance(found, RepoFile)
    assert found.lfs
    oid = found.lfs.sha256
    guest.create_repo("guest/thief", exist_ok=True)
    line = f'{{"key":"header","value":{{"summary":"x"}}}}\n{{"key":"lfsFile","value":{{"path":"a","oid":"{oid}"}}}}\n'
    refused = ask("POST", "/api/models/guest/thief/commit/main", line.encode(), token="hf_test_guest")
    assert (refused.status, "was not uploaded" in refused.error) == (400, True)


def test_gated_repositories_are_refused(api: HfApi, model: str) -> None:
    with pytest.raises(HfHubHTTPError, match="no gated repositories"):
        api.update_repo_settings(model, gated="auto")
