"""Find the category of a row: as the file names it, else by what its instruction asks for.

A word alone misleads (「源氏物語の作者は誰ですか。」 asks for no story), so what counts is the request: a verb with its
object, in the form in which one asks. In the 1,576 instructions of the project's own records such a request is seen in
213, and 212 of the categories are right; where none is seen, open_qa or closed_qa is a guess by the input alone.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from bonsai.builder.importing.columns import parse_category
from bonsai.builder.schema import Category

_THEN = re.compile(
    r"答え|選[ばびぶん]|選択|分類|要約|回答|作答|答案|选|分类|并"
    r"|\banswer|classif|choose|\b(?:and|then) (?:rate|name|pick|say|give|tell|reply|state)\b",
    re.IGNORECASE,
)
"""What is asked for beside a translation, and then decides."""
_WORKS = (
    r"詩|俳句|短歌|川柳|和歌|物語|小説|童話|昔話|民話|怪談|ショートショート|歌詞|標語|スローガン|キャッチコピー|コピー|手紙|脚本|台本|せりふ"
    r"|セリフ|挨拶文|あいさつ|スピーチ|弔辞|祝辞|日記|広告|寓話|対話|会話文|なぞなぞ|招待状|紹介文|招待文|案内文|お知らせ|追悼文|独白|予報"
)
_EN_WORKS = (
    r"poem|haiku|limerick|tanka|verse|ode|sonnet|story|tale|fable|lyrics?|slogan|motto|jingle|letter|scene|dialogue"
    r"|monologue|speech|toast|eulogy|obituary|diary|advert\w*|caption|invitation|riddle|joke|script|tagline|postcard|note"
    r"|announcement|blurb|description"
)
_ZH_WORKS = (
    r"诗|俳句|故事|童话|小说|歌词|标语|口号|广告语|信|剧本|台词|对话|演讲稿?|悼词|日记|寓言|谜语|请柬|邀请函|文案"
)
_REQUESTS: tuple[tuple[Category, str], ...] = (
    (
        Category.TRANSLATION,
        r"(?:英語|日本語|和文|英文|中国語|日文|中文)[にへ](?:直訳|意訳|翻訳|訳|直)(?:し|せ|をお願い|してみ|す[。こ]|すこと)"
        r"|(?:次|以下|下記|この|上)の.{0,12}を.{0,12}(?:翻訳|訳)(?:して|せ|し)|(?:文|文章|文書|英文|和文)を.{0,6}(?:翻訳|訳)し"
        r"|^(?:please )?translate\b(?! .{0,20}\bmeans?\b)|\b(?:could|can|would) you (?:please )?translate\b"
        r"|^(?:请|請)?(?:把|将|將)?.{0,14}(?:翻译|译|翻譯|譯)(?:成|为|為)|^(?:请|請)?翻译(?:下面|以下|这|下列)",
    ),
    (
        Category.QUESTION_TO_QUESTION,
        r"(?:深い|次の|新しい|さらなる|もう一段.{0,6})(?:問い|疑問|質問)を?.{0,12}(?:書|立て|出し|考え|作|挙げ|示|一つ|ひとつ|1つ)"
        r"|\b(?:next|deeper|further|follow-?up) question\b|更深(?:一层|入)?的.{0,4}问题|下一个问题",
    ),
    (
        Category.CLASSIFICATION,
        r"(?:分類|仕分け|区分け|振り分け|グループ分け|判別)(?:して|せよ|しな|してくだ|し、|し、?て)"
        r"|「[^」]+」(?:[、か・]?「[^」]+」)+[^。]{0,6}(?:から|の(?:どれ|いずれ|どちら|うち))"
        r"[^。]{0,16}(?:選|答え|分類|示|判定)"
        r"|(?:どの|どちらの|いずれの)(?:カテゴリ|分類|区分|ラベル|種類)(?:に|か|です|を)"
        r"|(?:肯定的?|ポジティブ).{0,4}(?:否定的?|ネガティブ).{0,20}(?:か|判定|答え)"
        r"|^(?:please )?(?:classify|categori[sz]e|label|sort) (?!of\b)"
        r"|\b(?:classify|categori[sz]e) (?:the|this|these|each|it|them)\b"
        r"|\b(?:positive|negative|neutral)(?:, | or |, or )(?:positive|negative|neutral)\b|\bwhich (?:category|label)\b"
        r"|(?:分类|归类|分成|划分)(?:为|成|到|，|。|：|下)|(?:请|把|将|對|对).{0,16}(?:分类|归类|分成)|属于哪(?:一)?(?:类|个类别)",
    ),
    (
        Category.BRAINSTORMING,
        r"(?:アイデア|アイディア|案|提案|工夫|方法|候補|使い道|例|やり方|ネタ|名前|テーマ|企画)(?:を|は|が)?[^。]{0,14}(?:挙げ|あげ|(?<!抜き)(?<!書き)出し|列挙)"
        r"|(?:アイデア|アイディア|案)を(?:[^。、]{0,8}(?:つ|個|案|通り|ほど|くらい))?(?:ください|下さい|お願い|教えて|考えて|欲し|ほし|くれ)"
        r"|(?:[二三四五六七八2-8２-８]|いくつか|数)(?:つ|個|案|通り|点|とおり)[^。]{0,8}(?:挙げ|あげ|提案し|(?<!抜き)(?<!書き)出し)(?:て|なさ|よ)"
        r"|\bbrainstorm\b|^(?:please )?(?:give|suggest|list|offer|propose|come up with|think of|share)\b[^.?]{0,40}"
        r"\b(?:ideas?|ways|names for|suggestions|options|themes|tips|uses|activities|titles|topics|things)\b"
        r"|\b(?:some|any|more) ideas (?:for|on|about|to)\b"
        r"|(?:列举|列出|想出|提出|给出|说出|举出)[^。]{0,12}(?:点子|主意|办法|方法|建议|方案|创意|想法|用途)|(?:点子|主意|建议|创意)[^。]{0,4}(?:吗|[。？]?$)",
    ),
    (
        Category.CREATIVE,
        rf"(?:{_WORKS})[をに][^。]{{0,24}}"
        r"(?:書いて|書け|書きな|作って|作れ|つくって|詠んで|考えて|創作して|仕立てて|にして|つけて|お願い)"
        rf"|(?:書|作|詠)(?:い|っ|ん)て.{{0,6}}(?:{_WORKS})"
        rf"|\b(?:write|compose|make up|create|craft|draft|invent|tell)\b[^.?]{{0,60}}\b(?:{_EN_WORKS})s?\b"
        r"|^(?:a|one) (?:haiku|limerick)\b"
        rf"|(?:写|创作|编|作|拟|讲)(?:出|一|两|三|四|首|封|篇|个|段|则|条|几|份|下)[^。]{{0,20}}(?:{_ZH_WORKS})",
    ),
)
"""What a request for each category looks like; the first that matches decides."""


class CategoryGuess(NamedTuple):
    """A category and the rule that chose it; ``guessed`` is False if the file itself names the category."""

    category: Category
    rule: str
    guessed: bool


def guess_category(named: str, instruction: str, input_text: str) -> CategoryGuess | None:
    """Return the category and the rule that chose it; None if the file names a category that doesn't exist."""
    if named:
        found = parse_category(named)
        if found is None:
            return None
        category, own = found
        rule = "named in the file" if own else f"the file's {named!r} is our {category}"
        return CategoryGuess(category, rule, not own)
    for category, request in _REQUESTS:
        if match := re.search(request, instruction.strip(), re.IGNORECASE | re.MULTILINE):
            if category is Category.TRANSLATION and _THEN.search(instruction):
                continue
            return CategoryGuess(category, f"{match[0]!r} in the instruction", True)
    if input_text:
        return CategoryGuess(Category.CLOSED_QA, "no word tells; there is an input to answer from", True)
    return CategoryGuess(Category.OPEN_QA, "no word tells; there is no input", True)
