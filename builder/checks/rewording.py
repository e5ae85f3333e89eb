"""Whether two questions of one language ask the same thing in other words.

A cosine alone can't tell: "capital of Japan" and "capital of France" come closer than many a rewording. What tells them
apart is the content that one side has and the other lacks, and words that stand in contrast (summer and winter).
"""

from __future__ import annotations

import functools
import re
import unicodedata
from math import exp

from bonsai.builder.checks.contrasts import contrasted
from bonsai.builder.checks.quantities import disagreement

ENGLISH_EMPTY = frozenset(
    re.findall(
        r"\S+",
        """
        a an the of in on at to for from by with as and or if is are was were be been do does did can could would
        will should may might must it its that this these those there here what which who whom whose when where why
        how one ones you your i me my we our they them their he she his her not no so than then into about up down
        out off over any some give given get got let make makes made name tell say says said please explain describe
        reason reasons cause causes caused thing things way ways means kind come comes came take takes took put bear
        bears work works use used using people someone somebody one's has have had write list suggest think ideas
        idea question questions answer five four six three two order called call mean possible translation born
        """,
    )
)
"""Words that say how something is asked, not what."""
_HAN_EMPTY = re.compile(
    "下さい|ください|教えて|答え|説明|挙げ|考え|書い|書き|理由|原因|何|名前|方法|次|文|質問|思|言|見|場合|必要|"
    "请|什么|为什么|怎样|怎么|如何|哪[里个座一位些条种]?|多少|是|的|了|吗|呢|不|会|能|把|被|在|有|和|与|那么|这|那|"
    "给出|提出|说明|写|个|为|以|用|得|着|就|都|又|也|要|到|对|从|中|因|由|使|让|很|叫|人们|之|谁|几|一"
)
_KANA_EMPTY = re.compile(
    "でしょうか|のでしょう|ですか|ますか|ません|ました|ください|どうして|どのように|どのような|どうやって|どうすれば|どこまで|"
    "なのです|のです|なぜ|どう|どこ|どれ|どの|いつ|だれ|それ|これ|その|この|いる|ある|する|なる|こと|もの|とき|ため|わけ|よう|"
    "から|まで|より|ので|のは|のが|して|した|しま|され|れる|られ|させ|いう|いえ|います|あり|です|ます|など|だけ|ほど|"
    "[はがをにへともでやのかねよ]"
)


def rewording(first: str, second: str, cosine: float) -> float:
    """How likely (0 to 1) the two ask the same; ``cosine`` is that of their sentence vectors.

    A logistic model of `features`, fitted to hand-labelled pairs in three languages (``tests/checks/cases``).
    """
    if folded(first) == folded(second):
        return 1.0
    if contrasted(first, second) or all(disagreement(first, second)):
        return 0.0
    ours, theirs = content(first), content(second)
    if not ours or not theirs:
        return float(cosine >= 0.85)
    numbers = features(first, second, cosine)
    return 1 / (1 + exp(-sum(weight * number for weight, number in zip(_WEIGHTS, numbers, strict=True))))


def features(first: str, second: str, cosine: float) -> tuple[float, ...]:
    """What the model sees: 1, the cosine, the content the better and the worse side lack, and whether one denies."""
    ours, theirs = content(first), content(second)
    lacking = _lacking(ours, theirs), _lacking(theirs, ours)
    return 1.0, cosine, min(lacking), max(lacking), float(bool(_DENIAL.search(first)) != bool(_DENIAL.search(second)))


_DENIAL = re.compile(
    r"(?i:\bnot\b|n't\b|\bnever\b|\bwithout\b|\bcannot\b)|ない(?!か)|ません(?!か)|ずに|(?<!能)(?<!会)(?<!是)(?<!要)不(?![同良])|没有"
)
_WEIGHTS = (-5.9, 12.5, 0.6, -5.4, -1.8)


@functools.lru_cache(maxsize=65_536)
def folded(text: str) -> str:
    """NFKC, lower case, letters and digits only."""
    return "".join(each for each in unicodedata.normalize("NFKC", text).casefold() if each.isalnum())


@functools.lru_cache(maxsize=65_536)
def content(text: str) -> frozenset[str]:
    """What a question is about: stems of English words, Han characters, katakana words, pairs of hiragana."""
    plain = unicodedata.normalize("NFKC", text).lower()
    words = {_stem(word) for word in re.findall(r"[a-zà-öø-ɏ']+", plain) if word not in ENGLISH_EMPTY and len(word) > 1}
    words |= set(re.findall(r"[ァ-ヴー]{2,}", plain)) | set(re.findall(r"\d+", plain))
    rest = _HAN_EMPTY.sub("　", plain)
    words |= set(re.findall(r"[一-鿿]", rest))
    for run in re.findall(r"[ぁ-ん]{2,}", _KANA_EMPTY.sub("　", rest)):
        words |= {run[place : place + 2] for place in range(len(run) - 1)}
    return frozenset(words)


def _stem(word: str) -> str:
    for ending in ("'s", "ness", "tion", "ing", "est", "ed", "es", "ly", "er", "s", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


def _lacking(ours: frozenset[str], theirs: frozenset[str]) -> float:
    """The share of our content that they lack."""
    return len(ours - theirs) / len(ours)
