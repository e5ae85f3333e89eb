"""A small OpenAI-compatible server that says what a test has it say, and fails where a test has it fail."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import jinja2
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from bonsai.builder.prompt import CHAT_TEMPLATE

Body = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What goes wrong with one request."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    error: Any = "overloaded"
    silent: float = 0.0
    """seconds before the first piece"""
    breaks_after: int | None = None
    """pieces after which the connection is dropped"""


@dataclass
class OpenAIServer:
    """Answers in pieces of one character; everything it was asked is kept."""

    says: Callable[[Body], str] = lambda body: "yes"
    fault: Callable[[Body, int], Fault | None] = lambda body, number: None
    """asked with each request and its number, 1 for the first with these messages"""
    models: tuple[str, ...] = ("small",)
    key: str | None = None
    template: str | None = None
    """None: it does not show what it makes of a chat; else it does, as vLLM does"""
    pause: float = 0.0
    """seconds between two pieces"""
    base_url: str = ""
    bodies: list[Body] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v1/models", self._models),
                Route("/v1/chat/completions", self._chat, methods=["POST"]),
                Route("/tokenize", self._tokenize, methods=["POST"]),
                Route("/detokenize", self._detokenize, methods=["POST"]),
            ]
        )

    def rendered(self, body: Body) -> str:
        """The prompt that its template makes of the turns, by vLLM's rules."""
        assert self.template is not None
        turns = body["messages"]
        text = jinja2.Template(self.template).render(
            messages=turns, eos_token="<|end|>", add_generation_prompt=body.get("add_generation_prompt", True)
        )
        if not body.get("continue_final_message"):
            return text
        end = text.rindex(turns[-1]["content"]) + len(turns[-1]["content"])
        return text[:end]

    async def _models(self, request: Request) -> Response:
        self.keys.append(request.headers.get("authorization", ""))
        if self.key and self.keys[-1] != f"Bearer {self.key}":
            return JSONResponse({"error": {"message": "no such key"}}, 401)
        return JSONResponse({"object": "list", "data": [{"id": name} for name in self.models]})

    async def _tokenize(self, request: Request) -> Response:
        if self.template is None:
            return JSONResponse({"detail": "Not Found"}, 404)
        tokens = [ord(character) for character in self.rendered(await request.json())]
        return JSONResponse({"count": len(tokens), "max_model_len": 4096, "tokens": tokens})

    async def _detokenize(self, request: Request) -> Response:
        return JSONResponse({"prompt": "".join(map(chr, (await request.json())["tokens"]))})

    async def _chat(self, request: Request) -> Response:
        body = await request.json()
        self.bodies.append(body)
        self.keys.append(request.headers.get("authorization", ""))
        number = sum(one["messages"] == body["messages"] for one in self.bodies)
        fault = self.fault(body, number) or Fault()
        if fault.status is not None:
            return JSONResponse({"error": fault.error}, fault.status, fault.headers)
        return StreamingResponse(self._pieces(body, fault), media_type="text/event-stream")

    async def _pieces(self, body: Body, fault: Fault) -> AsyncIterator[str]:
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            await asyncio.sleep(fault.silent)
            text = self.says(body)
            said = text[: body.get("max_tokens", len(text))]
            for number, character in enumerate(said):
                if number == fault.breaks_after:
                    raise ConnectionResetError
                yield _event(body, delta={"content": character})
                await asyncio.sleep(self.pause)
            yield _event(body, delta={}, finish_reason="stop" if said == text else "length")
            usage = {"prompt_tokens": 1, "completion_tokens": len(said) + 1, "total_tokens": len(said) + 2}
            yield f"data: {json.dumps({**_chunk(body), 'choices': [], 'usage': usage})}\n\n"
            yield "data: [DONE]\n\n"
        finally:
            self.at_once -= 1


def _chunk(body: Body) -> dict[str, Any]:
    return {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": body["model"]}


def _event(body: Body, **choice: Any) -> str:
    choices = [{"index": 0, "finish_reason": None, **choice}]
    return f"data: {json.dumps({**_chunk(body), 'choices': choices})}\n\n"


@contextmanager
def serving(server: OpenAIServer) -> Iterator[OpenAIServer]:
    """On a free port of this machine, in a thread."""
    config = uvicorn.Config(
        server.app(), port=0, log_config=None, ws="none", lifespan="off", timeout_graceful_shutdown=1
    )
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    while not running.started:
        thread.join(0.01)
        assert thread.is_alive()
    server.base_url = f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}/v1"
    try:
        yield server
    finally:
        running.should_exit = True
        thread.join(10)


def question(body: Body) -> str:
    """The user's turn."""
    return str(next(one["content"] for one in body["messages"] if one["role"] == "user"))


OURS = CHAT_TEMPLATE
CHATML = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
