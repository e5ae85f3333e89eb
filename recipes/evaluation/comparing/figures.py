"""The figures of a few questions that a visitor of the demo put to several models, as a piece of its page.

They are those of `bonsai compare`, in the one language that the page is read in. A price is not among them: a visitor
is not told what the machine costs.
"""

from __future__ import annotations

from markupsafe import Markup

from bonsai.recipes.evaluation.comparing.heat import heat_map
from bonsai.recipes.evaluation.comparing.measures import MEASURES
from bonsai.recipes.evaluation.comparing.page import asset, environment
from bonsai.recipes.evaluation.comparing.questions import Listed
from bonsai.recipes.evaluation.comparing.record import Comparison, Round, Sampled, Side
from bonsai.recipes.evaluation.comparing.results import results
from bonsai.recipes.inference.demo.compared import Compared
from bonsai.recipes.inference.demo.words import Tongue

LIST = "demo"


def figures(compared: Compared, tongue: Tongue) -> str:
    """The table of measures and the picture of likeness; every name is escaped by jinja2."""
    found = results(_comparison(compared))
    return str(
        environment()
        .get_template("figures.html.j2")
        .render(
            tongue=tongue,
            style=Markup(asset("figures.css")),
            names=compared.names,
            several=len(compared.questions) > 1,
            measures=MEASURES,
            measured=found.measured,
            heat=heat_map(found.matrix, {name: name for name in compared.names}),
        )
    )


def _comparison(compared: Compared) -> Comparison:
    ids = [str(place + 1) for place in range(len(compared.questions))]
    return Comparison(
        lists=(LIST,),
        decoder_name=compared.decoder_name,
        decoder=compared.decoder,
        samples=max(map(len, compared.took.values())),
        versions={},
        models=tuple(
            Side(
                name=name,
                rounds=tuple(
                    Round(sample=sample, answers=len(ids), tokens=one.tokens, seconds=one.seconds)
                    for sample, one in enumerate(compared.took[name], 1)
                ),
            )
            for name in compared.names
        ),
        questions=tuple(
            Listed(id=id_, group=LIST, question=question) for id_, question in zip(ids, compared.questions, strict=True)
        ),
        answers=tuple(
            Sampled(model=name, question=ids[place], sample=sample, answer=answer)
            for (place, name), answers in compared.answers.items()
            for sample, answer in enumerate(answers, 1)
        ),
    )
