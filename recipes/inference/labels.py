"""Labels of the summaries and of the demo, in Japanese and English."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from bonsai.builder.schema import Language


class PerspectiveLabels(NamedTuple):
    """A perspective as a reader hears of it."""

    name: str
    because: str
    """why the next question was asked from there, as a sentence"""


@dataclass(frozen=True, kw_only=True)
class SummaryLabels:
    """One language's labels; ``{}`` stands for what is counted or named."""

    html: str
    title: str
    chains: str
    asked: str
    why_deeper: str
    learnt: str
    still_open: str
    nothing_open: str
    ended: str
    depth_reached: str
    going_on: str
    step: str
    question: str
    reasoning: str
    no_reasoning: str
    answer: str
    no_answer: str
    next_question: str
    considered: str
    chosen: str
    passed: str
    refused: str
    nearness: str
    theme: str
    depth: str
    tree: str
    tree_help: str
    close: str
    two_passes: str
    retried: str
    loops: str
    cut_off: str
    tokens: str
    seconds: str
    steps: str
    rule: str
    told_by: str
    untold: str
    quoted: str
    perspectives: dict[str, PerspectiveLabels]

    def perspective(self, key: str | None) -> PerspectiveLabels:
        """The perspective in words; one this module has not heard of is called by its key."""
        if key is None:
            return PerspectiveLabels(self.question, "")
        return self.perspectives.get(key, PerspectiveLabels(key, key))


SUMMARY_JA = SummaryLabels(
    html="ja",
    title="まとめ",
    chains="質問の一覧",
    asked="尋ねたこと",
    why_deeper="深めた理由",
    learnt="学んだこと",
    still_open="まだ開いている問い",
    nothing_open="残った問いはありません。",
    ended="終わった理由",
    depth_reached="頼まれた{}段まで進みました。",
    going_on="まだ途中です（{}段のうち{}段）。",
    step="第{}段",
    question="はじめの問い",
    reasoning="Reasoning（理由）",
    no_reasoning="Reasoningはありません。",
    answer="答え",
    no_answer="答えはありません。",
    next_question="次の問い",
    considered="検討した次の問い",
    chosen="選んだ",
    passed="通ったが選ばなかった",
    refused="退けた",
    nearness="近さ",
    theme="主題との関わり",
    depth="深さ",
    tree="問いの根",
    tree_help="太い根が進んだ道、緑の芽は尋ねずに残った問い、切られた細い根は退けた問い。触れると理由を読めます。",
    close="閉じる",
    two_passes="Reasoningを先に尋ねました",
    retried="やり直しました",
    loops="同じことを繰り返しています",
    cut_off="長さの上限で切れています",
    tokens="{}トークン",
    seconds="{}秒",
    steps="{}段のうち{}段",
    rule="「学んだこと」は、答えの文をそのまま引いています。問いや前の段と重ならない言葉を最も多く含む文を、各段から二つまで選びました。",
    told_by="{}が書いた要約です。誤りがあるかもしれません。下の引用と比べてください。",
    untold="モデルの書いた要約は使いませんでした（{}）。",
    quoted="答えからの引用",
    perspectives={
        "why": PerspectiveLabels("なぜ", "答えの奥にある原因を知るため。"),
        "evidence": PerspectiveLabels("根拠", "何がその答えを支えているかを確かめるため。"),
        "exception": PerspectiveLabels("例外", "その答えが成り立たない場合を探すため。"),
        "affected": PerspectiveLabels("影響を受ける人", "誰がどう影響を受けるかを知るため。"),
        "change": PerspectiveLabels("変える条件", "何が変われば答えも変わるかを知るため。"),
        "measure": PerspectiveLabels("測り方", "どうすれば確かめ、測れるかを知るため。"),
        "history": PerspectiveLabels("歴史", "どうしてそうなったのか、いきさつを知るため。"),
        "opposite": PerspectiveLabels("反対", "反対の立場から見直すため。"),
        "plain": PerspectiveLabels("指定なし", "ただ「次の質問」を頼んだだけ。"),
    },
)

SUMMARY_EN = SummaryLabels(
    html="en",
    title="Summary",
    chains="Questions",
    asked="What was asked",
    why_deeper="Why it went deeper",
    learnt="What was learnt",
    still_open="What remains open",
    nothing_open="No question is left over.",
    ended="Why it ended",
    depth_reached="All {} steps that were asked for are done.",
    going_on="Still going on: {1} of {0} steps.",
    step="Step {}",
    question="Opening question",
    reasoning="Reasoning",
    no_reasoning="No Reasoning.",
    answer="Answer",
    no_answer="No answer.",
    next_question="Next question",
    considered="Next questions considered",
    chosen="chosen",
    passed="passed, not taken",
    refused="refused",
    nearness="nearness",
    theme="on the theme",
    depth="depth",
    tree="Where the roots went",
    tree_help="The thick root is the way taken, a green bud a question left unasked, a cut root a question refused. "
    "Touch one to read why.",
    close="Close",
    two_passes="Reasoning asked for first",
    retried="Asked again",
    loops="Says the same again and again",
    cut_off="Cut off at the greatest length",
    tokens="{} tokens",
    seconds="{} s",
    steps="{1} of {0} steps",
    rule="“What was learnt” quotes the answers word for word: of each step up to two sentences, those that hold most "
    "of what neither the question nor an earlier step had said.",
    told_by="Written by {}. It may be wrong; compare it with the quotations below.",
    untold="The summary a model wrote is not used: {}.",
    quoted="Quoted from the answers",
    perspectives={
        "why": PerspectiveLabels("why", "To learn the cause behind the answer."),
        "evidence": PerspectiveLabels("evidence", "To see what the answer rests on."),
        "exception": PerspectiveLabels("exception", "To look for cases where the answer does not hold."),
        "affected": PerspectiveLabels("who is affected", "To learn whom it touches, and how."),
        "change": PerspectiveLabels(
            "what would change it", "To learn what would have to change for the answer to change."
        ),
        "measure": PerspectiveLabels("how to measure", "To learn how it could be checked and measured."),
        "history": PerspectiveLabels("history", "To learn how it came to be so."),
        "opposite": PerspectiveLabels("opposite", "To look at it from the other side."),
        "plain": PerspectiveLabels("none", "The next question was asked for, and no more."),
    },
)


def load_labels(language: Language) -> SummaryLabels:
    """Japanese for a Japanese chain, English for every other."""
    return SUMMARY_JA if language is Language.JA else SUMMARY_EN


UILanguage = Literal["ja", "en"]


@dataclass(frozen=True, kw_only=True)
class DemoLabels:
    """One language's labels; ``{}`` stands for a number or a name."""

    html: UILanguage
    welcome: str
    ask: str
    qtq: str
    compare: str
    browse: str
    question: str
    question_hint: str
    material: str
    material_hint: str
    more: str
    language: str
    languages: dict[str, str]
    persona: str
    persona_hint: str
    passes: str
    passes_choices: dict[str, str]
    model: str
    models: str
    run_ask: str
    run_qtq: str
    run_compare: str
    stop: str
    stopped: str
    waiting: str
    reasoning: str
    answer: str
    no_reasoning: str
    no_answer: str
    two_passes: str
    retried: str
    loops: str
    cut_off: str
    facts: str
    depth: str
    step: str
    opening: str
    looking: str
    summary: str
    summary_to_come: str
    download: str
    questions: str
    questions_hint: str
    samples: str
    samples_hint: str
    settings: str
    settings_choices: dict[str, str]
    category: str
    every_category: str
    shown_languages: str
    search: str
    search_hint: str
    earlier: str
    later: str
    found: str
    nothing_found: str
    output: str
    material_field: str
    provenance: str
    too_long: str
    too_many: str
    empty: str
    choose_one: str
    broken: str
    examples: tuple[str, ...]


DEMO_JA = DemoLabels(
    html="ja",
    welcome="言語モデルが書き、別の言語モデルが読み直した小さなデータセットと、そこから育った小さなモデルです。尋ねてみてください。答えは間違うことがあります。",
    ask="尋ねる",
    qtq="QtQ",
    compare="くらべる",
    browse="読む",
    question="質問",
    question_hint="知りたいことを書いてください",
    material="資料（任意）",
    material_hint="質問が対象とする文章があれば、ここに貼ってください",
    more="設定",
    language="答えの言語",
    languages={"same": "質問と同じ", "ja": "日本語", "en": "英語", "zh": "中国語"},
    persona="役柄（任意）",
    persona_hint="例：あなたは良心的な科学者です。",
    passes="進め方",
    passes_choices={"auto": "おまかせ", "one": "一段", "two": "二段（先にReasoning）"},
    model="モデル",
    models="くらべるモデル",
    run_ask="尋ねる",
    run_qtq="深める",
    run_compare="くらべる",
    stop="止める",
    stopped="止めました。",
    waiting="考えています…",
    reasoning="Reasoning（理由）",
    answer="答え",
    no_reasoning="Reasoningはありません。",
    no_answer="答えはありません。",
    two_passes="先にReasoningだけを尋ねました",
    retried="やり直しました",
    loops="同じことを繰り返しています",
    cut_off="長さの上限で切れています",
    facts="{}・{}トークン・{}秒",
    depth="深さ（段数）",
    step="第{}段",
    opening="はじめの問い",
    looking="次の問いを探しています…",
    summary="まとめ",
    summary_to_come="段が進むたびに、ここにまとめが育ちます。",
    download="まとめを保存",
    questions="質問（一行に一つ、{}つまで）",
    questions_hint="放射性セシウムの健康影響は何ですか？",
    samples="同じ質問をする回数",
    samples_hint="2回以上で、答えの安定を見られます",
    settings="生成の設定",
    settings_choices={"greedy": "毎回同じ答え（greedy）", "post": "ブログ記事の設定（temperature 0.2）"},
    category="カテゴリ",
    every_category="すべて",
    shown_languages="並べる言語",
    search="言葉で探す",
    search_hint="例：温泉",
    earlier="← 前へ",
    later="次へ →",
    found="{}件中 {}–{}件目",
    nothing_found="当てはまる記録はありません。",
    output="答え",
    material_field="入力",
    provenance="出所",
    too_long="「{}」は{}文字あります。{}文字までにしてください。",
    too_many="質問が{}あります。{}つまでにしてください。",
    empty="質問を書いてください。",
    choose_one="モデルを一つ以上選んでください。",
    broken="うまくいきませんでした。記録番号 {}。もう一度試すか、番号を添えて知らせてください。",
    examples=(
        "日本で一番高い山はどこですか。",
        "なぜ味噌汁は沸騰させないほうがよいのですか。",
        "品質管理で不良が減らないとき、最初に何を疑いますか。",
    ),
)

DEMO_EN = DemoLabels(
    html="en",
    welcome="A small dataset, written by one language model and read by another, and the small model grown from it. "
    "Ask it; its answers may be wrong.",
    ask="Ask",
    qtq="QtQ",
    compare="Compare",
    browse="Browse",
    question="Question",
    question_hint="Write what you want to know",
    material="Material (optional)",
    material_hint="A text the question is about, if there is one",
    more="Settings",
    language="Language of the answer",
    languages={"same": "as the question", "ja": "Japanese", "en": "English", "zh": "Chinese"},
    persona="Persona (optional)",
    persona_hint="e.g. You are a conscientious scientist.",
    passes="Passes",
    passes_choices={"auto": "as needed", "one": "one", "two": "two (Reasoning first)"},
    model="Model",
    models="Models to compare",
    run_ask="Ask",
    run_qtq="Go deeper",
    run_compare="Compare",
    stop="Stop",
    stopped="Stopped.",
    waiting="Thinking…",
    reasoning="Reasoning",
    answer="Answer",
    no_reasoning="No Reasoning.",
    no_answer="No answer.",
    two_passes="Reasoning asked for first",
    retried="Asked again",
    loops="Says the same again and again",
    cut_off="Cut off at the greatest length",
    facts="{} · {} tokens · {} s",
    depth="Depth (steps)",
    step="Step {}",
    opening="Opening question",
    looking="Looking for the next question…",
    summary="Summary",
    summary_to_come="With each step the summary grows here.",
    download="Save the summary",
    questions="Questions (one a line, {} at most)",
    questions_hint="What are the health effects of radioactive caesium?",
    samples="Times each is asked",
    samples_hint="Twice or more shows how stable the answers are",
    settings="Decoding",
    settings_choices={"greedy": "the same answer each time (greedy)", "post": "as in the posts (temperature 0.2)"},
    category="Category",
    every_category="all",
    shown_languages="Languages side by side",
    search="Search",
    search_hint="e.g. hot spring",
    earlier="← Back",
    later="Next →",
    found="{1}–{2} of {0}",
    nothing_found="No record is like that.",
    output="Answer",
    material_field="Input",
    provenance="Source",
    too_long="“{}” has {} characters; {} is the most.",
    too_many="There are {} questions; {} is the most.",
    empty="Write a question.",
    choose_one="Choose at least one model.",
    broken="That did not work. Record {}. Try again, or report it with this number.",
    examples=(
        "What is the highest mountain of Japan?",
        "Why should miso soup not be boiled?",
        "When defects do not decrease, what do you suspect first?",
    ),
)


def demo_labels(tongue: str) -> DemoLabels:
    """Japanese unless English is wanted."""
    return DEMO_EN if tongue == "en" else DEMO_JA
