"""Long lists in pages, the way GitHub and the Hub do it: the address of the next page stands in the `Link` header."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse

from bonsai.hub.errors import BadRequestError

_Item = TypeVar("_Item")


def page_of(items: Iterable[_Item], *, start: int, size: int) -> tuple[list[_Item], bool]:
    """The items of a page, and whether there are more."""
    found = list(islice(items, start, start + size + 1))
    return found[:size], len(found) > size


def number_parameter(request: Request, name: str, default: int, *, largest: int = 2**53) -> int:
    """Raises BadRequestError unless the parameter is a whole number; above `largest` it is cut."""
    text = request.query_params.get(name, str(default))
    if not text.isdecimal() or len(text) > 18:
        raise BadRequestError(f"'{name}' must be a whole number, not {text!r}")
    return min(int(text), largest)


def flag_parameter(request: Request, name: str) -> bool:
    """Whether a yes-or-no parameter is there and says yes."""
    return request.query_params.get(name, "").casefold() in ("1", "true", "yes")


def page_response(request: Request, items: Iterable[Any], *, cursor: str | None) -> JSONResponse:
    """A page as JSON; `cursor` leads to the next one, None means this is the last."""
    headers = {}
    if cursor is not None:
        parameters = [(key, value) for key, value in parse_qsl(request.url.query) if key != "cursor"]
        url = request.url.replace(query=urlencode([*parameters, ("cursor", cursor)]))
        headers["Link"] = f'<{url}>; rel="next"'
    return JSONResponse(list(items), headers=headers)
