"""Name the columns of foreign files: one table of aliases for `import` and `check-rows`.

A file with the columns ``質問``, ``Context`` and ``answer_JA`` means

    >>> [canonical_name(name) for name in ("質問", "Context", "answer_JA")]
    ['instruction', 'input', 'output_ja']

Nothing is ever overwritten: two columns of one meaning that both hold a text are refused by name (`ColumnMap.merge`).
"""

from __future__ import annotations

import functools
import math
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bonsai.builder.errors import RecordError
from bonsai.builder.schema import CATEGORIES, LANGUAGES, Category

TEXTS = ("instruction", "input", "reasoning", "output")
OF_LANGUAGE = (*TEXTS, "text", "history", "reasoning_original", "input_original")
"""What each language of a group has for itself; as a column ``output_ja`` and so on."""
ALIASES: dict[str, tuple[str, ...]] = {
    # Dolly, ms-swift, TRL, SQuAD and what people call it
    "instruction": (
        *("question", "query", "prompt", "problem"),
        *("指示", "質問", "質問文", "問題", "問い", "設問", "プロンプト", "指令", "问题", "提问", "提示"),
    ),
    "input": ("context", "passage", "入力", "文脈", "本文", "資料", "输入", "上下文", "材料"),
    "reasoning": (
        *("rationale", "thinking", "cot", "chain_of_thought", "explanation", "reasoning_content"),
        *("推論", "理由", "根拠", "思考", "解説", "考え方", "推理", "思路", "理据", "解析"),
    ),
    "output": (
        *("response", "answer", "completion", "generation", "reply"),
        *("出力", "回答", "答え", "解答", "応答", "返答", "输出", "答案", "答复"),
    ),
    "messages": ("conversations", "conversation", "dialogue", "dialog", "会話", "对话"),
    "history": ("履歴", "历史"),
    "system": ("system_prompt", "システム", "システムプロンプト", "系统", "系统提示"),
    "tools": ("functions",),
    "images": ("image", "videos", "video", "audios", "audio"),
    "category": ("カテゴリ", "カテゴリー", "类别"),
    "language": ("lang", "locale", "言語", "语言"),
    "topic": ("トピック", "話題", "主題", "话题", "主题"),
    "source": ("出典", "出所", "来源"),
    "license": ("licence", "ライセンス", "许可", "许可证"),
    "generator": ("model_name", "作成者", "書き手", "作者"),
    "group_id": ("グループ", "グループid", "组"),
}
"""What a column is read as, and the other names it goes by; compared without case, width and kind of separator."""

SIDE_TEXTS = ("system", "history", "tools", "images")
"""Columns that change what the answer means, and for which a record has no place: such a row waits as a draft."""

LANGUAGE_NAMES: dict[str, tuple[str, ...]] = {
    "ja": ("ja", "jp", "jpn", "ja_jp", "japanese", "日本語", "日语", "日文", "和文"),
    "en": ("en", "eng", "en_us", "en_gb", "english", "英語", "英语", "英文"),
    "zh": (
        *("zh", "cn", "zho", "chi", "zh_cn", "zh_hans", "zh_hans_cn", "chinese", "simplified_chinese"),
        *("中国語", "簡体字", "中文", "汉语", "简体中文", "中文_简体"),
    ),
}
CATEGORY_NAMES: dict[Category, tuple[str, ...]] = {
    Category.OPEN_QA: ("general_qa", "openqa"),
    # what is extracted or summed up comes from the question
    Category.CLOSED_QA: ("information_extraction", "summarization", "summarisation", "closedqa", "要約", "情報抽出"),
    Category.CLASSIFICATION: ("分類", "分类"),
    Category.BRAINSTORMING: ("brainstorm", "ブレインストーミング", "ブレスト", "发想", "头脑风暴"),
    Category.CREATIVE: ("creative_writing", "創作", "创作"),
    Category.TRANSLATION: ("翻訳", "翻译"),
    Category.QUESTION_TO_QUESTION: ("qtq",),
}
"""Other names of the categories; Dolly's are among them."""

_MISSING = frozenset(("", "nan", "<na>", "nat", "none", "null", "#n/a"))
"""How pandas, databases and spreadsheets write a value that isn't there."""
_NOTHING = _MISSING | frozenset(
    (
        *("<noinput>", "<no_input>", "noinput", "no_input", "n/a", "na", "nil", "-", "–", "—", "ー", "/", "empty"),
        *("なし", "無し", "無", "ナシ", "(なし)", "<なし>", "入力なし", "特になし", "該当なし"),
        *("无", "没有", "(无)", "无输入"),
    )
)
"""How people write that there is no input or no Reasoning."""
_LANGUAGE_OF_NAME = {name: language for language, names in LANGUAGE_NAMES.items() for name in names}
_SEPARATOR = re.compile(r"[\s_./:：()\[\]（）-]+")
_LANGUAGE_WORDS = "|".join(sorted((re.escape(name) for name in _LANGUAGE_OF_NAME), key=len, reverse=True))
_SUFFIXED = re.compile(rf"(?P<name>.+)_(?P<language>{_LANGUAGE_WORDS})")
_PREFIXED = re.compile(rf"(?P<language>{_LANGUAGE_WORDS})_(?P<name>.+)")


def fold_name(name: str) -> str:
    """Return a name without differences of case, width and separators: ``Open-QA`` and ``open qa`` are ``open_qa``."""
    return _SEPARATOR.sub("_", unicodedata.normalize("NFKC", name).strip().lower()).strip("_")


@functools.cache
def canonical_name(name: str) -> str:
    """Return the name that a column is read under; a name that means nothing comes back folded."""
    folded = fold_name(name)
    if plain := _canonical().get(folded):
        return plain
    for pattern in (_SUFFIXED, _PREFIXED):
        match = pattern.fullmatch(folded)
        base = match and _canonical().get(match["name"])
        if match and base in OF_LANGUAGE:
            return f"{base}_{_LANGUAGE_OF_NAME[match['language']]}"
    # "output / 出力" says it twice
    parts = {_canonical().get(part, "") for part in folded.split("_")}
    return parts.pop() if len(parts) == 1 and parts != {""} else folded


@functools.cache
def _canonical() -> dict[str, str]:
    names = {fold_name(alias): name for name, aliases in ALIASES.items() for alias in (name, *aliases)}
    # What has no alias but is read: translations, chains, published rows.
    plain = ("text", "chain", "step", "skills", "source_language", "reasoning_original", "input_original", "id")
    return names | {name: name for name in plain}


def is_read(name: str) -> bool:
    """Return whether something is read from a column of this canonical name."""
    plain = name.rpartition("_")[0] if name.rpartition("_")[2] in LANGUAGES else name
    return plain in _canonical().values() or name in _canonical().values()


def parse_language(name: str) -> str | None:
    """Return ``ja``, ``en`` or ``zh`` for any way to name it (``JA``, ``Japanese``, 日本語); None for other words."""
    return _LANGUAGE_OF_NAME.get(fold_name(name))


def split_language(key: str) -> str:
    """Return an id without the language at its end or beginning: ``q1`` for ``q1_JA``, ``q1-en2ja``, ``ja/q1``."""
    folded = fold_name(key)
    directed = re.fullmatch(r"(?P<name>.+?)_(?:ja|en|zh)2(?:ja|en|zh)", folded)
    match = directed or _SUFFIXED.fullmatch(folded) or _PREFIXED.fullmatch(folded)
    return match["name"] if match else key


def parse_category(name: str) -> tuple[Category, bool] | None:
    """Return the category that a name means, and whether it is the category's own name; None if it means none."""
    folded = fold_name(name)
    if folded in CATEGORIES:
        return Category(folded), True
    return next(((category, False) for category, names in CATEGORY_NAMES.items() if folded in names), None)


def is_missing(value: object) -> bool:
    """Return whether a value of a file stands for no value: null, NaN, pandas' NaT, an empty text."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return True
    return isinstance(value, str) and not value.strip()


def means_missing(text: str) -> bool:
    """Return whether a text is how a program writes a missing value (``nan``, ``NULL``, ``<NA>``)."""
    return text.strip().lower() in _MISSING


def means_nothing(text: str) -> bool:
    """Return whether a text in an input or a Reasoning says that there is none (``<noinput>``, ``なし``, ``N/A``)."""
    return unicodedata.normalize("NFKC", text).strip().strip("。.").lower().replace(" ", "_") in _NOTHING


def to_text(value: object) -> str | None:
    """Return a value as the text that a person typed; None for a list or an object, which is no text.

    Line ends are Unix's. White space around is dropped, but not the full-width space that indents a Japanese paragraph
    nor the indent of a first line that others follow, which may be code.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(int(value)) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else str(value)
    if hasattr(value, "isoformat"):  # a date or a time of a Parquet file
        return str(value.isoformat())
    if not isinstance(value, str):
        return None
    text = value.replace("_x000D_", "").replace("\r\n", "\n").replace("\r", "\n").rstrip()
    text = re.sub(r"\A(?:[ \t]*\n)+", "", text)
    return text if "\n" in text else text.lstrip(" \t\ufeff")


@dataclass(frozen=True, kw_only=True)
class ColumnMap:
    """Which column of a file is read as what; several may be read as one, if no row fills two of them."""

    names: dict[str, str]
    """canonical name by the name in the file"""
    format: str | None
    """Alpaca, Dolly, ShareGPT, messages, parallel columns, BONSAI, drafts; None if nothing was recognised"""

    @classmethod
    def of(cls, columns: Iterable[str], renamed: Mapping[str, str] | None = None) -> ColumnMap:
        """Map the columns of a file.

        Args:
            renamed: canonical name by column, for names that the table of aliases doesn't know or gets wrong.
        """
        renamed = renamed or {}
        taken = set(renamed.values())
        names = {}
        for column in columns:
            name = renamed.get(column, canonical_name(column))
            # A column that was named by the person takes the place of those that only look like it.
            names[column] = fold_name(column) + "_" if column not in renamed and name in taken else name
        return cls(names=names, format=_detect_format(set(names.values()), names))

    def merge(self, row: Mapping[str, Any], location: str, faults: list[str]) -> dict[str, Any]:
        """Return the values of a row by canonical name, without missing ones; a fault if two claim one name."""
        found: dict[str, Any] = {}
        origin: dict[str, str] = {}
        for column, value in row.items():
            name = self.names.get(column, column)
            if is_missing(value):
                # an empty text is told from none at all only where the two differ: in an earlier input
                if value == "" and name == "input_original":
                    found.setdefault(name, "")
                continue
            if name in found and found[name] not in ("", value):
                both = f"'{origin[name]}' and '{column}' both mean '{name.removesuffix('_')}'"
                faults.append(f"{location}: {both}; remove one, or say which: --column {name}={column!r}")
                continue
            found[name], origin[name] = value, column
        return found

    def unread(self, read: Collection[str]) -> list[str]:
        """Return the columns that nothing is read from."""
        return [column for column, name in self.names.items() if name not in read]


def _detect_format(known: set[str], names: Mapping[str, str]) -> str | None:
    """Name the format that has these columns; None if no format has."""
    folded = {fold_name(name) for name in names}
    if {"reason", "rows"} <= folded:
        return "drafts"
    if "messages" in known:
        return "ShareGPT" if folded & {"conversations", "conversation"} else "messages"
    if any({f"instruction_{a}", f"output_{a}"} <= known or f"text_{a}" in known for a in LANGUAGES):
        return "parallel columns"
    if {"text", "language"} <= known and "category" in known:
        return "BONSAI"
    if not {"instruction", "output"} <= known:
        # OpenAI's evals and others call the question input
        return "input and output" if {"input", "output"} <= known else None
    if {"context", "response"} <= folded:
        return "Dolly"
    return "BONSAI" if known & {"group_id", "reasoning"} else "Alpaca"


def parse_renames(pairs: Iterable[str]) -> dict[str, str]:
    """Parse ``output=模範解答`` (what it is read as, and the column) into canonical names by column.

    Raises:
        RecordError: one of them is no such pair.
    """
    known = {*_canonical().values(), *(f"{name}_{language}" for name in TEXTS for language in LANGUAGES)}
    renamed = {}
    for pair in pairs:
        name, equals, column = pair.partition("=")
        if not equals or not column or canonical_name(name) not in known:
            names = ", ".join((*TEXTS, "messages", "category", "language", "group_id"))
            raise RecordError([f"--column {pair}: write what it is and the column's name, output=NAME; known: {names}"])
        renamed[column] = canonical_name(name)
    return renamed
