"""Words that stand in contrast: a question with the one isn't a rewording of a question with the other.

Sentence vectors put summer and winter side by side, so closed classes of words are compared as such.
"""

from __future__ import annotations

import functools
import re
import unicodedata

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
"""By script, as ウィーン and Vienna may be one: katakana, quoted words, capitalised words."""


def contrasted(first: str, second: str) -> bool:
    """Whether each side has a word of some class, or a name, where the other has another one."""
    for ours, theirs in zip(_members(first), _members(second), strict=True):
        if ours and theirs and (ours - theirs) and (theirs - ours):
            return True
    return any(
        ours and theirs and not _told(ours, second) and not _told(theirs, first)
        for ours, theirs in zip(_names(first), _names(second), strict=True)
    )


@functools.lru_cache(maxsize=65_536)
def _members(text: str) -> tuple[frozenset[int], ...]:
    plain = unicodedata.normalize("NFKC", text).lower()
    return tuple(frozenset(place for place, word in enumerate(words) if word.search(plain)) for words in _PATTERNS)


@functools.lru_cache(maxsize=65_536)
def _names(text: str) -> tuple[frozenset[str], ...]:
    plain = unicodedata.normalize("NFKC", text)
    return tuple(
        frozenset(name.casefold() for name in pattern.findall(plain) if not _in_a_class(name)) for pattern in _NAMES
    )


def _in_a_class(name: str) -> bool:
    return any(word.search(name.lower()) for words in _PATTERNS for word in words)


def _told(names: frozenset[str], text: str) -> bool:
    return any(name in text.casefold() for name in names)
