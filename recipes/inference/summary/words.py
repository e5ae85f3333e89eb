"""What a summary says of its own, in the two languages it speaks; all else on it is quoted from the chain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from bonsai.builder.schema import Language


class Perspective(NamedTuple):
    """A perspective as a reader hears of it."""

    name: str
    because: str
    """why the next question was asked from there, as a sentence"""


@dataclass(frozen=True, kw_only=True)
class Words:
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
    perspectives: dict[str, Perspective]

    def perspective(self, key: str | None) -> Perspective:
        """The perspective in words; one this module has not heard of is called by its key."""
        if key is None:
            return Perspective(self.question, "")
        return self.perspectives.get(key, Perspective(key, key))


JA = Words(
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
        "why": Perspective("なぜ", "答えの奥にある原因を知るため。"),
        "evidence": Perspective("根拠", "何がその答えを支えているかを確かめるため。"),
        "exception": Perspective("例外", "その答えが成り立たない場合を探すため。"),
        "affected": Perspective("影響を受ける人", "誰がどう影響を受けるかを知るため。"),
        "change": Perspective("変える条件", "何が変われば答えも変わるかを知るため。"),
        "measure": Perspective("測り方", "どうすれば確かめ、測れるかを知るため。"),
        "history": Perspective("歴史", "どうしてそうなったのか、いきさつを知るため。"),
        "opposite": Perspective("反対", "反対の立場から見直すため。"),
        "plain": Perspective("指定なし", "ただ「次の質問」を頼んだだけ。"),
    },
)

EN = Words(
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
        "why": Perspective("why", "To learn the cause behind the answer."),
        "evidence": Perspective("evidence", "To see what the answer rests on."),
        "exception": Perspective("exception", "To look for cases where the answer does not hold."),
        "affected": Perspective("who is affected", "To learn whom it touches, and how."),
        "change": Perspective("what would change it", "To learn what would have to change for the answer to change."),
        "measure": Perspective("how to measure", "To learn how it could be checked and measured."),
        "history": Perspective("history", "To learn how it came to be so."),
        "opposite": Perspective("opposite", "To look at it from the other side."),
        "plain": Perspective("none", "The next question was asked for, and no more."),
    },
)


def words(language: Language) -> Words:
    """Japanese for a Japanese chain, English for every other."""
    return JA if language is Language.JA else EN
