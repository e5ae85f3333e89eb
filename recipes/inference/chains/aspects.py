"""What a question asks for: a cause, an effect, a person, a measure …

Two questions about one thing are the same question only if they ask the same of it: "why do customers leave" and "what
do customers buy once they have left" share their words and not their aspect. Sentence vectors hardly see that.
"""

from __future__ import annotations

import functools
import re
import unicodedata

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
_PATTERNS = {name: re.compile("|".join(words)) for name, words in _ASPECTS.items()}
_POLITE = re.compile(
    r"^(?:so,? |and |but |then )*(?:(?:can|could|would|will) (?:you|we) (?:please )?(?:explain|tell me|describe|say)"
    r"|please explain|do you (?:know|think)|in your (?:view|opinion),?) |请(?:问|说明|解释)"
    r"|教えてください|説明してください"
)
_INTERROGATIVE = re.compile(r"何|なぜ|どう|どん|どの|どこ|どれ|どち|いつ|誰|だれ|いく")


@functools.lru_cache(maxsize=65_536)
def aspects(question: str) -> frozenset[str]:
    """Names of what is asked for, several where the wording leaves it open, none where nothing tells."""
    plain = _POLITE.sub("", unicodedata.normalize("NFKC", question).lower().strip())
    found = {name for name, pattern in _PATTERNS.items() if pattern.search(plain)}
    if re.search(r"か[。?]?$", plain) and not _INTERROGATIVE.search(plain):
        found.add("whether")
    return frozenset(found)
