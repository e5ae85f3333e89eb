"""Estimate whether a question repeats an earlier one, and which aspect of the subject it asks about.

Two questions about one thing are the same question only if they ask the same of it: "why do customers leave" and "what
do customers buy once they have left" share their words but not their aspect, which sentence vectors hardly see.

`bonsai.builder.checks.paraphrase` was made for pairs that people wrote; a question that a model asks next shares most
of its words with the one before even when it is deeper. So besides content words and sentence vectors, this module
compares what is asked of the content (`question_aspects`), antonyms, and who does what to whom.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from math import exp
from typing import NamedTuple

from bonsai.builder.checks.paraphrase import content_words, embed, paraphrase_features, paraphrase_probability
from bonsai.builder.checks.text import normalize_alnum

_ASPECTS: dict[str, tuple[str, ...]] = {
    "cause": (
        r"\bwhy\b|\bhow come\b|\breasons?\b|\bcauses?\b",
        r"\bwhat(?: is it that)? (?:makes?|made|causes?|caused|leads?|led|drives?|prevents?|stops|keeps)\b",
        r"なぜ|どうして|理由|原因",
        r"为什么|为何|是什么[^，。]{0,6}(?:让|使|导致)",
    ),
    "effect": (
        r"affect|effects?\b|impacts?\b|influenc|\bhappens?\b|consequence|\bimplication",
        r"影響|どうなり|どうなる|どう変|何が起|効果",
        r"影响|会怎样|会怎么样|后果|发生什么|有什么变化",
    ),
    "relation": (
        r"\brelat(?:ed|es?|ion|ionship)\b|\bconnect|\bgo together\b|\blink(?:ed|s)?\b",
        r"関係|関わ|关系|有关|联系",
    ),
    "role": (r"\brole\b|\bimportan|\bmatters?\b", r"役割|重要|大切|作用|角色"),
    "means": (
        r"\bhow (?:can|could|should|do|does|did|to|might)\b|\bways? (?:to|of|in)\b|\bsteps\b|\bmethods?\b|strateg",
        r"\bby what means\b|どうすれば|方法|どうやって|やり方|どのように|怎样|怎么|如何|办法",
    ),
    "measure": (
        r"\b(?:tell|know|find out|measur\w*|test\w*|verif\w*|check\w*|judge\w*|detect\w*|prov(?:e|ed)|evidence)\b",
        r"見分け|区別|調べ|測[るりれっ定]|確かめ|検証|証拠|何を見れば|分か[りるれ]",
        r"分清|查明|测量|检验|验证|证据|看什么|看出|弄清",
    ),
    "person": (r"\bwho\b|\bwhose\b|\bwhom\b|誰|だれ|谁",),
    "time": (
        r"(?:^|, )when\b|\bin (?:which|what) (?:cases?|situations?|circumstances|kinds?)",
        r"\bwhat conditions?|\bat what point",
        r"いつ|(?:どんな|どのような|どういう)(?:とき|時|場合|場面|条件)",
        r"什么时候|何时|什么情况|什么场合|哪些(?:情况|场合)|什么条件",
    ),
    "limit": (
        r"\bexcept|\bunless\b|\bcounterexample|\bbreak(?:s| down)\b|\bfail(?:s|ed|ure)?\b|\blimit",
        r"例外|当てはまらない|成り立たな|反例|限界|不适用|不成立",
    ),
    "quantity": (
        r"\bhow (?:many|much|long|often|far|big|large|tall|high|old)\b|\bwhat (?:number|share|amount)|\bextent\b",
        r"どれだけ|どのくらい|どれくらい|いくつ|何[人個回本枚年]|どこまで",
        r"多少|几[个次人天年]|多久|多长|多大|程度",
    ),
    "place": (r"\bwhere\b|どこ(?!まで)|哪里|哪儿|在哪",),
    "benefit": (
        r"benefit|\badvantages?\b|\bgains?\b|\buseful|\bpoint in\b",
        r"利点|長所|メリット|役に立|有用|好处|优点|意义",
    ),
    "harm": (
        r"\brisks?\b|drawback|disadvantage|\bharm|\bdangers?\b|\bprice (?:of|for)\b|\bpays?\b",
        r"欠点|短所|デメリット|危険|代償|損|坏处|缺点|风险|代价|危险|妨碍|吃亏|承担",
    ),
    "loss": (r"\blos[et]s?\b|\bgiv\w+ up\b|失われ|失[いうっ]|丢失|失去",),
    "history": (
        r"\bhistor|\borigin|\bbegan\b|\bfirst appear|\bonce\b|\bused to\b",
        r"起源|始ま|起こり|歴史|昔|かつて|产生|历史|由来|过去",
    ),
    "supposed": (r"\bif\b|\bsuppose|\bwithout\b", r"もし|たら|とすれば|なら、|如果|假如|要是|假设|倘若"),
    "change": (
        r"\bwhat would (?:have to )?change|\b(?:needs?|ha[sd]|have) to change|\bdifferently\b",
        r"何が変わ|変える|必须改变|改变",
    ),
    "need": (
        r"\bwhat (?:does it take|is (?:needed|required)|would it take)|\bneed(?:s|ed)?\b",
        r"何が(?:必要|要)|要りますか|需要",
    ),
    "decider": (
        r"\bdecid|\bdetermin|\bfactors?\b|\bdepends?\b|\bbas[ei]s\b|\bcriteri",
        r"決ま|決め|左右|基準|决定|取决|因素|标准|根据|判断",
    ),
    "kind": (r"\bwhich\b|\bwhat (?:kinds?|sorts?|types?)\b", r"どの[^よ]|どちら|哪些|哪种|哪个|哪一"),
    "whether": (
        r"^(?:can|could|is|are|am|do|does|did|should|will|has|have|was|were|may|must)\b",
        r"\bwhether\b|, (?:can|is|are|do|does)\b|吗|能不能|是不是|有没有|是否",
    ),
}
_ASPECT_PATTERNS = {name: re.compile("|".join(words)) for name, words in _ASPECTS.items()}
_POLITE = re.compile(
    r"^(?:so,? |and |but |then )*(?:(?:can|could|would|will) (?:you|we) (?:please )?(?:explain|tell me|describe|say)"
    r"|please explain|do you (?:know|think)|in your (?:view|opinion),?) |请(?:问|说明|解释)"
    r"|教えてください|説明してください"
)
_INTERROGATIVE = re.compile(r"何|なぜ|どう|どん|どの|どこ|どれ|どち|いつ|誰|だれ|いく")

_OPPOSITES: tuple[tuple[str, str], ...] = (
    (r"\bstop|\bquit|\bend(?:s|ed)?\b|なくな|やめ|不再|停止", r"\bstart|\bbeg[iau]n|始め|始ま|开始"),
    (r"\bclos|閉|关闭|倒闭", r"\bopen|\bbuil|建て|開[くい]|开[张办业]|扩建|建立"),
    (r"\bbuil[dt]|\bgain|\bcreate|築|作[るりれっ]|建立|形成",
     r"\bdestroy|\blos[et]|\bbreak|壊|失[うわい]|破裂|失去|毁"),
    (r"\bgood\b|良い|よい知|好消息", r"\bbad\b|悪い|坏消息"),
    (r"\brais|\bincreas|\bgrow|\bmore\b|上げ|増[えや]|高め|提高|增加|上涨|上调",
     r"\blower|\bdecreas|\breduc|\bfewer|\bless\b|下げ|減[らりる]|降低|减少|下调"),
    (r"benefit|advantage(?<!disadvantage)|利点|長所|メリット(?<!デメリット)|好处|优点",
     r"\brisk|drawback|disadvantage|\bharm|欠点|短所|デメリット|坏处|缺点|风险"),
    (r"\blearn|賢く|学[びぶべ]|学会|聪明", r"\bunlearn|\bforget|失[っいう]|忘れ|忘记|失去"),
    (r"\bhard\b|\bdifficult|難し|很难", r"\beas[iy]|たやす|すぐ|容易|一眼"),
    (r"\bown\b|\bour\b|自分|自己", r"\bothers?\b|\bother people|他人|别人"),
    (r"\balways\b|\busual|\bnormal|ふだん|いつも|平时|总是", r"\bnever\b|\brare|\bemergenc|まれ|非常時|从不|紧急"),
    (r"続[けくい]|continu|\blast(?:s|ed)?\b|延续|持续", r"始ま|起こり|\bbegan|\borigin|产生|起源"),
    (r"\bhelp|促|有助", r"\bhinder|\bprevent|損な|妨"),
)  # fmt: skip
_ANTONYM_PATTERNS = tuple((re.compile(one), re.compile(other)) for one, other in _OPPOSITES)
_SYMMETRIC = re.compile(r"\bbetween\b|\brelat|\bsame\b|\bdiffer|\band\b|関係|違い|同じ|关系|区别|不同|相同")
_TOKEN = re.compile(r"[a-z0-9']+|[一-鿿]|[ァ-ヴー]+|[ぁ-ん]+")

SAME_FROM = 0.2
"""probability from which a next question counts as asked before"""

_WEIGHTS = (-3.32, 6.08, 0.43, -1.89, -2.01, 1.48, -2.26, -3.15, -4.18)


class PairFeatures(NamedTuple):
    """The features of the logistic model."""

    constant: float
    cosine: float
    lacking_less: float
    """share of its content words that are missing from the other, for the question that is covered better"""
    lacking_more: float
    """the same for the other question"""
    denial: float
    """1 if one is negated and the other is not"""
    aspects_shared: float
    """Jaccard similarity of the aspects; 0.5 if one has none"""
    aspects_differ: float
    """1 if both have aspects and none in common"""
    opposed: float
    """1 if one has a word and the other its antonym"""
    exchanged: float
    """see `replaced_span_score`"""


def same_question_probability(first: str, second: str) -> float:
    """Estimate whether two questions ask the same, 0 to 1: by rule if one decides, else by logistic regression.

    The model is fitted, and `SAME_FROM` chosen, on one half of labelled pairs in three languages and tested on the
    other: ``benchmarks/qtq_pairs.py``.
    """
    if (known := by_rule(first, second)) is not None:
        return known
    return 1 / (
        1 + exp(-sum(weight * value for weight, value in zip(_WEIGHTS, pair_features(first, second), strict=True)))
    )


def by_rule(first: str, second: str) -> float | None:
    """Return the probability if words, order, numbers or names decide it; None if they do not."""
    if normalize_alnum(first) == normalize_alnum(second):
        return 1.0
    if is_role_swap(first, second):
        return 0.0
    one, other = embed([first, second])
    likely = paraphrase_probability(first, second, float(one @ other))
    return likely if likely == 0 or not content_words(first) or not content_words(second) else None


def pair_features(first: str, second: str) -> PairFeatures:
    """Compute the features of two questions that both have content words."""
    one, other = embed([first, second])
    ours, theirs = question_aspects(first), question_aspects(second)
    shared = len(ours & theirs) / len(ours | theirs) if ours and theirs else 0.5
    differ = float(bool(ours and theirs) and not ours & theirs)
    constant, cosine, less, more, denial = paraphrase_features(first, second, float(one @ other))
    return PairFeatures(
        constant,
        cosine,
        less,
        more,
        denial,
        shared,
        differ,
        float(has_antonyms(first, second)),
        replaced_span_score(first, second),
    )


@functools.lru_cache(maxsize=65_536)
def question_aspects(question: str) -> frozenset[str]:
    """Return the aspects a question may ask about, such as ``{"cause"}``; empty if its wording does not tell."""
    plain = _POLITE.sub("", unicodedata.normalize("NFKC", question).lower().strip())
    found = {name for name, pattern in _ASPECT_PATTERNS.items() if pattern.search(plain)}
    if re.search(r"か[。?]?$", plain) and not _INTERROGATIVE.search(plain):
        found.add("whether")
    return frozenset(found)


@functools.lru_cache(maxsize=65_536)
def has_antonyms(first: str, second: str) -> bool:
    """Return whether one question has a word and the other only its antonym."""
    ours, theirs = (unicodedata.normalize("NFKC", text).lower() for text in (first, second))
    for one, other in _ANTONYM_PATTERNS:
        # which of the two words each side has: opposed if each has one of them, and not the same
        found = [(bool(one.search(text)), bool(other.search(text))) for text in (ours, theirs)]
        if found in ([(True, False), (False, True)], [(False, True), (True, False)]):
            return True
    return False


def is_role_swap(first: str, second: str) -> bool:
    """Return whether the same words come in another order, so that who acts and who is acted upon change roles."""
    ours, theirs = (_TOKEN.findall(unicodedata.normalize("NFKC", text).lower()) for text in (first, second))
    return ours != theirs and sorted(ours) == sorted(theirs) and not _SYMMETRIC.search(first.lower())


def replaced_span_score(first: str, second: str) -> float:
    """Return the share of words in a common beginning and end, times the distance (1 - cosine) of what is between."""
    ours, theirs = (_TOKEN.findall(unicodedata.normalize("NFKC", text).lower()) for text in (first, second))
    shorter = min(len(ours), len(theirs))
    head = next((at for at in range(shorter) if ours[at] != theirs[at]), shorter)
    tail = next((at for at in range(shorter - head) if ours[-1 - at] != theirs[-1 - at]), shorter - head)
    spans = [words[head : len(words) - tail] for words in (ours, theirs)]
    middles = [(" " if all(word.isascii() for word in span) else "").join(span) for span in spans]
    if not head + tail or not all(middles):
        return 0.0
    one, other = embed(middles)
    return (head + tail) / max(len(ours), len(theirs)) * (1 - float(one @ other))
