"""Requests from browsers, other hosts and broken clients."""

import json

import pytest
from huggingface_hub import HfApi
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.hub.raw_client import RawClient


@pytest.mark.parametrize(
    "host", ["example.org", "127.0.0.1", "127.0.0.1:1", "localhost.example.org:{port}", "", "[::2]:{port}"]
)
def test_another_name_for_this_machine_is_refused(ask: RawClient, host: str) -> None:
    answer = ask("GET", "/api/whoami-v2", headers={"Host": host.format(port=ask.hub.endpoint.rpartition(":")[2])})
    assert (answer.status, "Host header" in answer.error) == (403, True)


def test_the_names_of_this_machine_are_accepted(ask: RawClient) -> None:
    port = ask.hub.endpoint.rpartition(":")[2]
    for host in ("localhost", "LOCALHOST", "127.0.0.1", "[::1]"):
        assert ask("GET", "/api/whoami-v2", headers={"Host": f"{host}:{port}"}).status == 200


def test_a_page_from_elsewhere_is_refused(ask: RawClient) -> None:
    for origin in ("https://example.org", "null", "http://127.0.0.1:1", "http://localhost.example.org"):
        assert ask("POST", "/api/repos/create", {"name": "x"}, headers={"Origin": origin}).status == 403
    assert ask("GET", "/api/whoami-v2", headers={"Origin": ask.hub.endpoint}).status == 200


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{", "not JSON"),
        (b"[1]", "must be a JSON object"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        ({}, "'name' must be a text"),
        ({"name": 3}, "'name' must be a text"),
        ({"name": "x", "type": "kernel"}, "use model, dataset or space"),
        ({"name": "x", "visibility": "protected"}, "use public or private"),
        ({"name": "x", "private": "yes"}, "must be true or false"),
    ],
)
def test_a_repository_cannot_be_made_from_nonsense(ask: RawClient, body: object, reason: str) -> None:
    answer = ask("POST", "/api/repos/create", body)
    assert (answer.status, reason in answer.error) == (400, True)


@pytest.mark.parametrize("name", ["..", "a/../b", ".hidden", "a--b", "a.git", "a b", "盆栽", "x" * 97, "a\x00", "a/b"])
def test_a_name_that_is_not_fit_for_a_path_is_refused(ask: RawClient, name: str) -> None:
    answer = ask("POST", "/api/repos/create", {"name": name})
    assert (answer.status, "cannot be the name of a repository" in answer.error) == (404, True)
    assert ask("POST", "/api/repos/create", {"name": "x", "organization": name}).status in (403, 404)


def test_a_body_too_large_is_refused(ask: RawClient) -> None:
    answer = ask("POST", "/api/validate-yaml", b'{"content": "' + b"x" * 17_000_000 + b'"}')
    assert answer.status == 413


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/models/qeu/x/discussions"),
        ("GET", "/api/daily_papers"),
        ("PATCH", "/api/repos/create"),
        ("POST", "/api/whoami-v2"),
        ("GET", "/favicon.ico"),
        ("GET", "//"),
        ("GET", "/%00"),
    ],
)
def test_what_is_not_served_is_a_plain_not_found(ask: RawClient, method: str, path: str) -> None:
    answer = ask(method, path)
    assert answer.status in (404, 405)
    assert "x-error-code" not in answer.headers
    assert "is not part of this small Hub" in answer.error


def test_the_root_says_what_this_is(ask: RawClient) -> None:
    assert b"local Hub of BONSAI" in ask("GET", "/", token=None).body


def test_xet_is_declined_with_the_remedy_in_the_address(ask: RawClient, model: str) -> None:
    answer = ask("GET", f"/api/models/{model}/xet-write-token/main")
    assert (answer.status, "HF_HUB_DISABLE_XET=1" in answer.headers["location"]) == (307, True)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = """
name organization type private visibility sdk fromRepo toRepo files gitIgnore operation objects transfers startingPoint
message tag content repoType paths expand gated size oid
"""


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    call=st.sampled_from(
        [
            ("POST", "/api/repos/create"),
            ("POST", "/api/repos/move"),
            ("POST", "/api/validate-yaml"),
            ("DELETE", "/api/repos/delete"),
            ("PUT", "/api/models/{}/settings"),
            ("POST", "/api/models/{}/preupload/main"),
            ("POST", "/api/models/{}/branch/b"),
            ("POST", "/api/models/{}/tag/main"),
            ("POST", "/api/models/{}/paths-info/main"),
            ("POST", "/api/models/{}/commit/main"),
            ("POST", "/{}.git/info/lfs/objects/batch"),
            ("POST", "/{}.git/lfs/verify"),
        ]
    ),
    body=st.dictionaries(st.sampled_from(FIELDS.split()), JSON, max_size=5),
)
def test_no_json_whatsoever_breaks_the_server(
    ask: RawClient, model: str, call: tuple[str, str], body: dict[str, object]
) -> None:
    method, path = call
    answer = ask(method, path.format(model), json.dumps(body).encode(), headers={"Content-Type": "application/json"})
    assert answer.status < 500, answer.body


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.text(alphabet="ab/.%2e0fF~ $&+:@'\\", min_size=1, max_size=30).map(lambda text: text.replace(" ", "%20"))
)
def test_no_address_whatsoever_breaks_the_server(ask: RawClient, api: HfApi, model: str, path: str) -> None:
    for start in ("/", f"/{model}/resolve/", f"/{model}/resolve/main/", f"/api/models/{model}/tree/", "/api/models/"):
        assert ask("GET", start + path).status < 500, start + path
