"""Everything the demo says of its own, in its two languages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Tongue = Literal["ja", "en"]


@dataclass(frozen=True, kw_only=True)
class Words:
    """One language's labels; ``{}`` stands for a number or a name."""

    html: Tongue
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


JA = Words(
    html="ja",
    welcome="小さなデータセットと、そこから育った小さなモデルです。尋ねてみてください。答えは間違うことがあります。",
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

EN = Words(
    html="en",
    welcome="A small dataset and the small model grown from it. Ask it; its answers may be wrong.",
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


def words(tongue: str) -> Words:
    """Japanese unless English is wanted."""
    return EN if tongue == "en" else JA
