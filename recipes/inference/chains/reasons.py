"""Why a question was refused, and why a chain ended: in Japanese for a Japanese chain, in English for every other."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from bonsai.builder.schema import Language


class _Told(NamedTuple):
    en: str
    ja: str
    counted_en: str
    counted_ja: str


class Kind(enum.Enum):
    """What is wrong with a candidate; fields of the sentences are filled by `refusal`."""

    SILENT = _Told("nothing was said", "何も言っていません", "said nothing", "無言")
    NO_QUESTION = _Told("it asks nothing", "質問になっていません", "asked nothing", "質問でない")
    GARBLED = _Told("it is garbled", "文字化けしています", "were garbled", "文字化け")
    FOREIGN = _Told(
        "it is not in the language of the chain", "連鎖の言語と違います", "were in another language", "別の言語"
    )
    REQUEST = _Told(
        "it is the request itself, not a question", "指示文そのものです", "repeated the request", "指示の写し"
    )
    LONG = _Told(
        "it has {found} characters, more than {limit}",
        "{found}字あり、{limit}字を超えます",
        "were too long",
        "長すぎる",
    )
    LOOPING = _Told("it runs in a loop", "同じ言葉を繰り返しています", "ran in a loop", "繰り返し")
    EMPTY = _Told(
        "it asks about nothing in particular", "何についての質問か分かりません", "were about nothing", "中身がない"
    )
    CIRCULAR = _Told(
        "it asks again what was asked in step {found} (likelihood {likely:.2f})",
        "第{found}段の質問の繰り返しです（見込み{likely:.2f}）",
        "asked again what was asked",
        "堂々めぐり",
    )
    ANSWERED = _Told(
        "the answer has said so: “{found}” (likelihood {likely:.2f})",
        "答えがもう述べています：「{found}」（見込み{likely:.2f}）",
        "asked what was answered",
        "答えの言い換え",
    )
    ASTRAY = _Told(
        "it leaves the theme (similarity {found:.2f}, at least {limit:.2f})",
        "テーマから外れます（類似度{found:.2f}、{limit:.2f}以上が必要）",
        "left the theme",
        "テーマから外れる",
    )
    SHALLOW = _Told(
        "it goes no deeper (depth {found:.2f}, at least {limit:.2f})",
        "深まりません（深さ{found:.2f}、{limit:.2f}以上が必要）",
        "went no deeper",
        "深まらない",
    )


class Refusal(NamedTuple):
    """A fault and its sentence."""

    kind: Kind
    because: str


def refusal(kind: Kind, language: Language, **values: object) -> Refusal:
    """The fault told in the language of the chain's reader."""
    sentence = kind.value.ja if language is Language.JA else kind.value.en
    return Refusal(kind, sentence.format(**values))


def why_ended(kinds: Iterable[Kind], language: Language) -> str:
    """One sentence over all candidates that were refused, the commonest fault first."""
    counted = Counter(kinds).most_common()
    total = sum(count for _, count in counted)
    if language is Language.JA:
        told = "、".join(f"{kind.value.counted_ja}{count}件" for kind, count in counted)
        return f"次の質問の候補{total}件を、すべて退けました（{told}）。"
    told = ", ".join(f"{count} {kind.value.counted_en}" for kind, count in counted)
    return f"all {total} candidates for the next question were refused: {told}"
