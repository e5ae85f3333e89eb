"""Keys, tokens and passwords, by detect-secrets' plugins that look for one shape each.

Its entropy and keyword plugins are left out: on 5,000 clean rows of prose they found 66,000 secrets.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

from detect_secrets.plugins.aws import AWSKeyDetector
from detect_secrets.plugins.azure_storage_key import AzureStorageKeyDetector
from detect_secrets.plugins.base import RegexBasedDetector
from detect_secrets.plugins.basic_auth import BasicAuthDetector
from detect_secrets.plugins.discord import DiscordBotTokenDetector
from detect_secrets.plugins.github_token import GitHubTokenDetector
from detect_secrets.plugins.gitlab_token import GitLabTokenDetector
from detect_secrets.plugins.jwt import JwtTokenDetector
from detect_secrets.plugins.npm import NpmDetector
from detect_secrets.plugins.openai import OpenAIDetector
from detect_secrets.plugins.private_key import PrivateKeyDetector
from detect_secrets.plugins.pypi_token import PypiTokenDetector
from detect_secrets.plugins.sendgrid import SendGridDetector
from detect_secrets.plugins.slack import SlackDetector
from detect_secrets.plugins.stripe import StripeDetector
from detect_secrets.plugins.telegram_token import TelegramBotTokenDetector

_PLUGINS = (
    AWSKeyDetector,
    AzureStorageKeyDetector,
    BasicAuthDetector,
    DiscordBotTokenDetector,
    GitHubTokenDetector,
    GitLabTokenDetector,
    JwtTokenDetector,
    NpmDetector,
    OpenAIDetector,
    PrivateKeyDetector,
    PypiTokenDetector,
    SendGridDetector,
    SlackDetector,
    StripeDetector,
    TelegramBotTokenDetector,
)

_MAY_HOLD_ONE = re.compile(r"[A-Za-z0-9_\-/+]{20}|://[^\s/]+:|-----BEGIN")
"""cheap to ask first: prose in any of the three languages has none of these"""

_MORE_TOKENS = re.compile(r"\b(?:hf_[A-Za-z]{30,40}|sk-(?:proj-|svcacct-|ant-)?[A-Za-z0-9_-]{32,})\b")
"""Hugging Face, and the makers of language models whose keys have changed since the plugins were written"""
_PASSWORD = re.compile(
    r"(?:pass ?words?|passwd|pwd|パスワード|暗証番号|密码|口令)\s*(?:is|are|は|が|是|为|[:：=])\s*"
    r"[\"'「“`]?(?P<value>[!-~]{6,40})",
    re.IGNORECASE,
)
_PLACEHOLDER = re.compile(r"example|sample|dummy|your|(.)\1{5,}|<[^>]*>|\*{3,}", re.IGNORECASE)


@functools.cache
def _plugins() -> tuple[RegexBasedDetector, ...]:
    return tuple(plugin() for plugin in _PLUGINS)


def secrets(text: str) -> Iterator[tuple[str, str]]:
    """Kind and text of each secret; placeholders and the examples of manuals are none."""
    if found := _MORE_TOKENS.search(text):
        yield from _unless_placeholder("an access token", found.group())
    for found in _PASSWORD.finditer(text):
        value = found["value"]
        if re.search(r"\d", value) and re.search(r"[A-Za-z]", value):
            yield from _unless_placeholder("a password", value)
    if not _MAY_HOLD_ONE.search(text):
        return
    for plugin in _plugins():
        for value in plugin.analyze_string(text):
            yield from _unless_placeholder(plugin.secret_type, value)


def _unless_placeholder(kind: str, value: str) -> Iterator[tuple[str, str]]:
    if not _PLACEHOLDER.search(value):
        yield kind, value
