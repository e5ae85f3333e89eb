"""Assemble the desk's ASGI application: one page, its script and style, and what the script asks.

Only this machine is answered, and only the page itself: Host and Origin are checked as by the local Hub, and every
request of the script carries a token that another page cannot know. Texts of records reach the page as JSON and are
shown as text; the content security policy lets no other script run.
"""

from __future__ import annotations

import secrets
import tomllib
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any, Literal, get_args

from jinja2 import Environment, StrictUndefined, Template
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bonsai.builder.desk.desk import Desk, Refusal
from bonsai.builder.desk.releases import Releases
from bonsai.builder.errors import BonsaiError, RecordError
from bonsai.builder.report import json_for_script
from bonsai.builder.samples import blind_lines, check_verdicts, draw_sample, take_verdicts
from bonsai.builder.schema import CATEGORIES, LANGUAGES, FaultKind, Language, Text, TranslationText
from bonsai.hub.server.request import LoopbackOnlyMiddleware

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_COOKIE = "desk_language"


class DeskRequest(BaseModel):
    """What the script sends; each request fills in what it needs."""

    model_config = ConfigDict(extra="forbid", strict=True)

    id: str = ""
    digest: str | None = None
    """of the group's line, as the page has it; None for a new group"""
    record: dict[str, Any] = Field(default_factory=dict)
    category: str = ""
    language: str = ""
    key: str = ""
    """hash of the text that is signed"""
    reader: str = Field(default="", max_length=100)
    kind: Literal["person", "model"] = "person"
    fault: FaultKind | None = None
    words: str = ""
    """of a search, or of a fault"""
    seed: int = 0
    size: int = Field(default=50, ge=1, le=100_000)
    languages: list[Language] = Field(default_factory=list)
    verdicts: list[dict[str, Any]] = Field(default_factory=list)
    release: str = ""


def create_app(desk: Desk, releases: Releases, *, reader: str = "", kind: str = "person") -> Starlette:
    """Create the application.

    Args:
        releases: what the records can be compared with.
        reader: whose name the page proposes for signatures.
        kind: what the reader is, ``person`` or ``model``.
    """
    token = secrets.token_urlsafe(16)

    async def page(request: Request) -> Response:
        language = _ui_language(request)
        boot = {
            "token": token,
            "labels": _labels()[language],
            "language": language,
            "categories": CATEGORIES,
            "languages": LANGUAGES,
            "fields": {"text": _fields(Text), "translation": _fields(TranslationText)},
            "faults": get_args(FaultKind),
            "reader": reader,
            "kind": kind,
        }
        html = _page().render(t=boot["labels"], language=language, boot=json_for_script(boot))
        response = HTMLResponse(html)
        if "language" in request.query_params:
            response.set_cookie(_COOKIE, language, max_age=365 * 86400, samesite="strict", httponly=True)
        return response

    async def asset(request: Request) -> Response:
        name = request.url.path.removeprefix("/")
        media = "text/javascript" if name.endswith(".js") else "text/css"
        return Response(files(__package__).joinpath(name).read_bytes(), media_type=media)

    def answer(path: str, function: Callable[[DeskRequest], Any]) -> Route:
        async def endpoint(request: Request) -> Response:
            if not secrets.compare_digest(request.headers.get("x-desk-token", "").encode(), token.encode()):
                raise HTTPException(403, "this request does not come from the desk's page; load the page again")
            asked = DeskRequest.model_validate_json(await request.body())
            found = await run_in_threadpool(function, asked)  # it may take a second
            if isinstance(found, Refusal):
                return JSONResponse({"error": found.message, "record": found.record, "digest": found.digest}, 409)
            return JSONResponse(found)

        return Route(f"/api/{path}", endpoint, methods=["POST"])

    def sign(asked: DeskRequest) -> Any:
        signature = {"reader": _reader(asked), "kind": asked.kind, "fault": asked.fault, "words": asked.words.strip()}
        return _saved(desk.sign(asked.id, asked.language, asked.key, **signature))

    def sample(asked: DeskRequest) -> Any:
        groups = [located.group for located in desk.groups()]
        return blind_lines(draw_sample(groups, asked.size, asked.seed, asked.languages), asked.seed)

    def verdicts(asked: DeskRequest) -> Any:
        given, faults = check_verdicts(asked.verdicts)
        if faults or not given:
            raise RecordError([reason for _, reason in faults] or ["no verdict was given; read the texts first"])
        taken = take_verdicts(desk.directory, given, seed=asked.seed, reader=_reader(asked), kind=asked.kind)
        return {**vars(taken.facts), "file": taken.path.name, "edited": taken.edited}

    return Starlette(
        routes=[
            Route("/", page),
            Route("/desk.js", asset),
            Route("/desk.css", asset),
            answer("state", lambda asked: desk.state()),
            answer("rows", lambda asked: desk.rows(asked.reader)),
            answer("search", lambda asked: desk.search(asked.words)),
            answer("group", lambda asked: desk.group(asked.id)),
            answer("check", lambda asked: desk.check(asked.record)),
            answer("relations", lambda asked: desk.relations(asked.record)),
            answer("new", lambda asked: desk.template(asked.category)),
            answer("save", lambda asked: _saved(desk.save(asked.id, asked.digest, asked.record))),
            answer("drop", lambda asked: _saved(desk.drop(asked.id, asked.digest or ""))),
            answer("sign", sign),
            answer("undo", lambda asked: desk.undo()),
            answer("readings", lambda asked: desk.readings()),
            answer("releases", lambda asked: releases.names()),
            answer("changed", lambda asked: releases.changed(asked.release, desk.groups())),
            answer("sample", sample),
            answer("verdicts", verdicts),
        ],
        middleware=[Middleware(LoopbackOnlyMiddleware), Middleware(_AddHeaders)],
        exception_handlers={
            HTTPException: _refuse,
            ValidationError: _not_understood,
            BonsaiError: lambda request, error: JSONResponse({"error": desk.hide(str(error))}, 400),
            Exception: _internal_error,
        },
    )


def _fields(text: type[BaseModel]) -> dict[str, bool]:
    """Return the fields of a language in their order, and whether each is plain text; others are edited as JSON."""
    return {name: field.annotation is str for name, field in text.model_fields.items()}


def _reader(asked: DeskRequest) -> str:
    if not asked.reader.strip():
        raise RecordError(["a signature needs a name; say who reads, at the top of the page"])
    return asked.reader.strip()


def _saved(outcome: str | Refusal) -> dict[str, str] | Refusal:
    return outcome if isinstance(outcome, Refusal) else {"id": outcome}


def _ui_language(request: Request) -> str:
    """Choose the page's language: as asked for, as asked for last time, or as the browser prefers."""
    asked = request.query_params.get("language") or request.cookies.get(_COOKIE)
    if asked in _labels():
        return str(asked)
    accepted = (part.split(";")[0].strip()[:2] for part in request.headers.get("accept-language", "").split(","))
    return next((language for language in accepted if language in _labels()), "en")


@cache
def _labels() -> dict[str, dict[str, str]]:
    return tomllib.loads(files(__package__).joinpath("labels.toml").read_text(encoding="utf-8"))


@cache
def _page() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(files(__package__).joinpath("page.html.j2").read_text(encoding="utf-8"))


async def _refuse(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    reason = error.detail if isinstance(error, HTTPException) and status == 403 else "the desk has no such page"
    return JSONResponse({"error": reason}, status)


async def _not_understood(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "the request was not understood; load the page again"}, 400)


async def _internal_error(request: Request, error: Exception) -> Response:
    """Answer 500; the traceback goes to the terminal."""
    return JSONResponse({"error": "internal error; the terminal says more"}, 500)


class _AddHeaders:
    """Send the same headers with every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await self._app(scope, receive, send_with_headers)
