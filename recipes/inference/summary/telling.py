"""The summary in a model's own words, kept only where they can be checked a little; the quotations stand below."""

from __future__ import annotations

import re

from bonsai.builder.checks.finding import Severity
from bonsai.builder.checks.language import foreign
from bonsai.builder.schema import Language
from bonsai.recipes.inference.asking.ask import ask
from bonsai.recipes.inference.conversation import Answer, Because, Chain, Question
from bonsai.recipes.inference.generation.decoder import GREEDY, Decoder
from bonsai.recipes.inference.generation.engine import Engine
from bonsai.recipes.inference.summary.content import Summary, summarise
from bonsai.recipes.inference.summary.words import words

_REQUEST = {
    Language.JA: "次の問答から学べることを、三文から五文でまとめてください。書かれていないことは加えないでください。",
    Language.EN: "Sum up in three to five sentences what this dialogue teaches. Add nothing that is not in it.",
    Language.ZH: "请用三到五句话概括下面的问答教给我们什么，不要添加其中没有的内容。",
}
_LONGEST = 600
"""characters of one answer that the model is shown"""
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


def tell(chain: Chain, engine: Engine, *, decoder: Decoder = GREEDY) -> Summary:
    """The summary with a model's own words above the quotations.

    Where its words cannot be used, the quotations stand alone and ``untold_because`` says why.

    Raises:
        GenerationError: the model cannot be asked.
    """
    quoted = summarise(chain)
    if not chain.steps:
        return quoted
    dialogue = "\n\n".join(f"{step.number}. {step.question}\n{step.answer.answer[:_LONGEST]}" for step in chain.steps)
    (said,) = ask(
        engine,
        [Question(instruction=_REQUEST[chain.language], input=dialogue, language=chain.language)],
        decoder=decoder,
    )
    wrong = _fault(said, chain.language, dialogue)
    if wrong is not None:
        told = wrong.told(words(chain.language).html)
        return quoted.model_copy(update={"untold_because": f"{said.model}: {told}"})
    return quoted.model_copy(update={"told": said.answer, "told_by": said.model})


def _fault(said: Answer, language: Language, dialogue: str) -> Because | None:
    """Why the words cannot be used, as a clause; None: they can."""
    if not said.answer.strip():
        return Because(en="it wrote nothing", ja="何も書きませんでした")
    if said.loops:
        return Because(en="it says the same again and again", ja="同じことを繰り返しています")
    if said.stopped_by == "length":
        return Because(en="it did not come to an end", ja="終わりまで書けませんでした")
    if any(fault.severity is Severity.ERROR for fault in foreign(said.answer, language)):
        return Because(
            en=f"it did not keep to the language of the chain ({language.value})",
            ja=f"連鎖の言語（{language.value}）で書かれていません",
        )
    known = set(_NUMBER.findall(dialogue))
    if new := [number for number in _NUMBER.findall(said.answer) if number not in known]:
        return Because(en=f"it names {new[0]}, which no answer does", ja=f"どの答えにもない数「{new[0]}」があります")
    return None
