"""Find personal data and secrets, which must not be published.

Secrets are found by the detectors of detect-secrets; its entropy and keyword plugins are left out, as they found 66,000
secrets in 5,000 clean rows of prose. Numbers count only with their check digit or their numbering plan; numbers and
domains that are reserved for examples and fiction are left alone.

Example:
    >>> [issue.message for issue in personal_data_issues("Write to taro.mori@bonsai-club.jp.", Language.EN)]
    ["'taro.mori@bonsai-club.jp' looks like a mail address"]
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

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
from phonenumbers import Leniency, PhoneNumberMatcher
from stdnum import iban, luhn
from stdnum.cn import ric
from stdnum.jp import in_ as my_number
from stdnum.us import ssn

from bonsai.builder.checks.base import Finding, Issue, Severity, iter_text_fields, to_findings, truncate
from bonsai.builder.records import SourcedGroup
from bonsai.builder.schema import Language

_PLUGINS: tuple[RegexBasedDetector, ...] = tuple(
    plugin()
    for plugin in (
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
)

_MAY_HOLD_ONE = re.compile(r"[A-Za-z0-9_\-/+]{20}|://[^\s/]+:|-----BEGIN")
"""a cheap test before the detectors: prose in any of the three languages has none of these"""

_MORE_TOKENS = re.compile(r"\b(?:hf_[A-Za-z]{30,40}|sk-(?:proj-|svcacct-|ant-)?[A-Za-z0-9_-]{32,})\b")
"""Hugging Face, and the makers of language models whose keys have changed since the plugins were written"""
_PASSWORD = re.compile(
    r"(?:pass ?words?|passwd|pwd|パスワード|暗証番号|密码|口令)\s*(?:is|are|は|が|是|为|[:：=])\s*"
    r"[\"'「“`]?(?P<value>[!-~]{6,40})",
    re.IGNORECASE,
)
_PLACEHOLDER = re.compile(r"example|sample|dummy|your|(.)\1{5,}|<[^>]*>|\*{3,}", re.IGNORECASE)

_REGIONS = {Language.JA: "JP", Language.EN: "US", Language.ZH: "CN"}

_MAIL = re.compile(r"[A-Za-z0-9._%+-]+@(?P<domain>[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+)")
_EXAMPLE_DOMAIN = re.compile(
    r"(?:^|\.)(?:example(?:\.(?:com|org|net|jp|co\.jp|cn|com\.cn))?|test|invalid|localhost)$", re.I
)
"""RFC 2606 and 6761, and the names that JPRS set aside"""

_PHONE_SHAPED = re.compile(r"(?<![\d.])[+(]?\d[\d() .\-]{7,18}\d(?![\d.]*\d)")
_EXAMPLE_PHONE = re.compile(r"(\d)\1{3,}|0123|1234|5678|55501\d\d$|7946 ?0\d{3}|1632 ?960\d{3}")
"""runs and rows of digits; 555-01xx (North America) and Ofcom's numbers for drama"""

_CARD_SHAPED = re.compile(r"(?<![\d.])[3-6](?:[ -]?\d){12,18}(?![\d.]*\d)")
_TWELVE = re.compile(r"(?<!\d)\d{4}[ -]?\d{4}[ -]?\d{4}(?!\d)")
_MY_NUMBER_NEAR = re.compile(r"個人番号|マイナンバー|[Mm]y ?[Nn]umber|个人编号")
_RESIDENT_ID = re.compile(r"(?<!\d)\d{17}[\dXx](?!\d)")
_SSN = re.compile(r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b")
_ACCOUNT = re.compile(
    r"(?:QQ号?|扣扣)\s*(?:[:：]|是|为)\s*[1-9]\d{5,10}"
    r"|(?:微信号?|WeChat ID|LINE ID)\s*(?:[:：]|是|は|为)\s*[A-Za-z][\w-]{5,19}"
)

_NUMERAL = r"(?:\d{1,4}|[一二三四五六七八九十百]{1,4})"
_ADDRESSES = (
    re.compile(
        rf"[都道府県市区町村郡][^\s、。]{{1,12}}?{_NUMERAL}(?:丁目|番地?|[-−‐ー])\s*{_NUMERAL}(?:番地?|号|[-−‐ー]|(?=[にのでへと、。\s]|$))"
    ),
    re.compile(r"[市区县镇][^\s，。、]{1,12}?(?:路|街|巷|弄|大道)\d+(?:号|弄)"),
    re.compile(
        r"\b\d{1,5} (?:[A-Z][a-z]+ ){1,3}(?:Street|St|Avenue|Ave|Lane|Ln|Road|Rd|Drive|Dr|Boulevard|Blvd)\b\.?,"
        r"[^.\n]{2,40}?(?:\b[A-Z]{2} \d{5}\b|\b[A-Z]{1,2}\d[\dA-Z]? \d[A-Z]{2}\b)"
    ),
)
"""down to the house: two numbers after a town (ja), a number after a street (zh), a number, street and postcode (en)"""


def check_personal_data(groups: Sequence[SourcedGroup]) -> list[Finding]:
    """Check every text, including texts from before an edit."""
    fields = [field for located in groups for field in iter_text_fields(located)]
    return [
        finding
        for field in fields
        for finding in to_findings("personal_data", field, personal_data_issues(field.text, field.language))
    ]


def find_secrets(text: str) -> Iterator[tuple[str, str]]:
    """Yield kind and text of each secret; placeholders and the examples of manuals are none."""
    candidates: list[tuple[str, str]] = []
    if token := _MORE_TOKENS.search(text):
        candidates.append(("an access token", token.group()))
    for found in _PASSWORD.finditer(text):
        if re.search(r"\d", found["value"]) and re.search(r"[A-Za-z]", found["value"]):
            candidates.append(("a password", found["value"]))
    if _MAY_HOLD_ONE.search(text):
        candidates += [(plugin.secret_type, value) for plugin in _PLUGINS for value in plugin.analyze_string(text)]
    for kind, value in candidates:
        if not _PLACEHOLDER.search(value):
            yield kind, value


@cache
def machine_paths() -> tuple[str, ...]:
    """Return the folders whose names would give this machine or its user away: home and working directory."""
    return tuple(str(path) for path in {Path.home(), Path.cwd()} if len(path.parts) > 2)


def personal_data_issues(text: str, language: Language) -> Iterator[Issue]:
    """Yield every secret and every piece of personal data in a text."""

    def issue(kind: str, value: str, severity: Severity = Severity.ERROR) -> Issue:
        hint = "remove it, or use one that is reserved for examples"
        return Issue(severity, f"'{truncate(value)}' looks like {kind}", hint)

    # 1. Secrets, in the text as it is.
    for kind, value in find_secrets(text):
        yield issue(kind, value)

    for path in machine_paths():
        if path in text:
            yield issue("a path of this machine", path)

    # 2. Addresses and accounts, after NFKC. A warning where only the shape gives them away.
    plain = unicodedata.normalize("NFKC", text)
    for mail in _MAIL.finditer(plain):
        if not _EXAMPLE_DOMAIN.search(mail["domain"]):
            yield issue("a mail address", mail.group())
    for pattern in _ADDRESSES:
        if address := pattern.search(plain):
            yield issue("a postal address", address.group(), Severity.WARNING)
    if account := _ACCOUNT.search(plain):
        yield issue("an account", account.group(), Severity.WARNING)

    # 3. Numbers with a check digit. The shortest, a social security number, has nine digits.
    if sum(character.isdigit() for character in plain) < 9:
        return
    for number in _CARD_SHAPED.findall(plain):
        if luhn.is_valid(re.sub(r"\D", "", number)):
            yield issue("a card number", number)
    for number in _RESIDENT_ID.findall(plain):
        if ric.is_valid(number):
            yield issue("a Chinese identity number", number)
    for number in _TWELVE.findall(plain):
        if _MY_NUMBER_NEAR.search(plain) and my_number.is_valid(number):
            yield issue("a My Number", number)
    for number in _SSN.findall(plain):
        if ssn.is_valid(number):
            yield issue("a social security number", number)
    for number in _IBAN.findall(plain):
        if iban.is_valid(number):
            yield issue("a bank account", number)

    # 4. Telephone numbers, which the matcher knows by country.
    if _PHONE_SHAPED.search(plain):
        for match in PhoneNumberMatcher(plain, _REGIONS[language], leniency=Leniency.STRICT_GROUPING):
            if not _EXAMPLE_PHONE.search(re.sub(r"\D", "", match.raw_string)):
                yield issue("a telephone number", match.raw_string)
