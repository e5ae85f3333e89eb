"""What stands behind an address: which models it serves, whether it has our chat template, what settings it takes.

Servers do not say what they are. llama.cpp and vLLM show what they make of a chat, each in its own way; that tells
both who they are and whether the template is ours. Every other server is taken for one with a template of its own.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Literal

from huggingface_hub import get_session, get_token

from bonsai.builder.messages import GAP, INSTRUCTION_MARKER, REASONING_MARKER, Message
from bonsai.hub.client.session import httpx
from bonsai.recipes.inference.generation.decoder import Decoder
from bonsai.recipes.inference.models.chat import for_any_model, for_our_template

KEY = "OPENAI_API_KEY"
NO_KEY = "none"
"""sent where there is no key: given nothing, the client would send the Hub's token to whoever is asked"""
WHOLE_PROMPT = 1 << 17
"""tokens that llama.cpp looks back for repetitions: all there are; it refuses -1, which once meant that"""
_HUGGING_FACE = (".huggingface.co", ".huggingface.cloud")
_PROBE_QUESTION = "Why?"
_PROBE = f"{INSTRUCTION_MARKER}{_PROBE_QUESTION}{GAP}{REASONING_MARKER}"


@dataclass(frozen=True, kw_only=True)
class Server:
    """How one server is to be asked."""

    kind: Literal["llama.cpp", "vLLM", "other"] = "other"
    has_our_template: bool = False

    def messages(self, prompt: str) -> list[Message]:
        """The prompt as this server's turns."""
        if not self.has_our_template:
            return for_any_model(prompt)
        return for_our_template(prompt, marker_is_there=self.kind == "llama.cpp")

    def extra(self, decoder: Decoder, messages: list[Message]) -> dict[str, Any]:
        """What the OpenAI protocol has no word for; empty for a server that is not known to take it."""
        if self.kind == "llama.cpp":
            return {
                "repeat_penalty": decoder.repetition_penalty,
                "repeat_last_n": WHOLE_PROMPT,
                "samplers": ["penalties", "temperature", "top_p"],  # in the order of our own engine
            }
        if self.kind == "vLLM":
            ours = {"repetition_penalty": decoder.repetition_penalty, "top_k": -1, "min_p": 0.0}
            if messages[-1]["role"] == "assistant":
                return ours | {"continue_final_message": True, "add_generation_prompt": False}
            return ours
        return {}

    def unheeded(self, decoder: Decoder) -> tuple[str, ...]:
        """Settings of the decoder that this server cannot be told."""
        known = self.kind != "other" or decoder.repetition_penalty == 1
        return () if known else ("repetition_penalty",)


def key_for(base_url: str) -> str:
    """The key that this address may see: the Hub's token for Hugging Face only, OPENAI_API_KEY for any other."""
    host = "." + httpx.URL(base_url).host
    token = get_token() if host.endswith(_HUGGING_FACE) else os.environ.get(KEY, "").strip()
    return token or NO_KEY


def served(base_url: str, *, seconds: float) -> list[str]:
    """The names of the models there; empty: the server does not list them.

    Raises:
        httpx.HTTPError: the server cannot be reached, or refuses the key, or is in trouble.
    """
    response = get_session().get(f"{base_url}/models", headers=_headers(base_url), timeout=seconds)
    if response.status_code in (404, 405):
        return []
    response.raise_for_status()
    told = response.json()
    return [str(one["id"]) for one in told.get("data") or []] if isinstance(told, dict) else []


def recognise(base_url: str, model: str, *, seconds: float) -> Server:
    """Which server it is, by what it makes of a chat; what it does not answer counts as not known.

    llama.cpp: https://github.com/ggml-org/llama.cpp/tree/master/tools/server, ``/apply-template``. vLLM: ``/tokenize``
    and ``/detokenize`` of https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html.
    """
    root = base_url.removesuffix("/v1")
    messages = [Message(role="user", content=_PROBE_QUESTION)]

    def asked(path: str, body: dict[str, Any]) -> Any:
        try:
            response = get_session().post(root + path, json=body, headers=_headers(base_url), timeout=seconds)
            told = response.json() if response.status_code == 200 else {}
        except (httpx.HTTPError, ValueError):
            return {}
        return told if isinstance(told, dict) else {}

    rendered = asked("/apply-template", {"messages": messages}).get("prompt")
    if isinstance(rendered, str):
        return Server(kind="llama.cpp", has_our_template=rendered.endswith(_PROBE))
    tokens = asked("/tokenize", {"model": model, "messages": messages}).get("tokens")
    if tokens:
        rendered = asked("/detokenize", {"model": model, "tokens": tokens}).get("prompt")
        return Server(kind="vLLM", has_our_template=str(rendered).endswith(_PROBE))
    return Server()


def _headers(base_url: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key_for(base_url)}"}
