"""Training, chat template and engines give the same tokens, whatever special tokens a base's tokenizer adds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, LlamaTokenizer, PreTrainedTokenizerFast

from bonsai.builder.prompt import CHAT_TEMPLATE, PromptEncoder, to_messages, to_prompt_completion

QUESTIONS = ("Why does bread dough rise?", "盆栽はなぜ小さいのですか。", "")
BEGIN, END, MASK = "<s>", "</s>", "[gMASK]"


def byte_level(post: Any = None, **special: Any) -> Any:
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator([], trainers.BpeTrainer(special_tokens=[BEGIN, END, MASK], initial_alphabet=alphabet))
    if post:
        inner.post_processor = processors.TemplateProcessing(
            single=post, pair=f"{post} $B", special_tokens=[(BEGIN, 0), (END, 1), (MASK, 2)]
        )
    return PreTrainedTokenizerFast(tokenizer_object=inner, **{"bos_token": BEGIN, "eos_token": END, **special})


def sentence_piece(scheme: str | None) -> Any:
    """With a space at the start of a text, put there by the pre-tokenizer, or (None) by a normalizer as in Llama 2."""
    inner = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    letters = ["<unk>", BEGIN, END, *(f"<0x{n:02X}>" for n in range(256)), "▁", *"#:nIstruciowhydeabg?.R\n盆栽"]
    vocabulary = {piece: at for at, piece in enumerate(dict.fromkeys(letters))}
    inner.model = models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>", byte_fallback=True)
    if scheme is None:
        inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    inner.post_processor = processors.TemplateProcessing(single=f"{BEGIN} $A", special_tokens=[(BEGIN, 1)])
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token=BEGIN, eos_token=END, unk_token="<unk>")


def flagged(**flags: bool) -> Any:
    vocabulary = {"<unk>": 0, BEGIN: 1, END: 2, "▁": 3}
    for letter in "#:nIstruciowhydeabg?.R\n盆栽Wm":
        vocabulary.setdefault(letter, len(vocabulary))
    return LlamaTokenizer(vocab=vocabulary, merges=[], **flags)


def with_own_template() -> Any:
    tokenizer = byte_level(f"{BEGIN} $A")
    tokenizer.chat_template = "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
    return tokenizer


KINDS: dict[str, tuple[Callable[[], Any], list[int]]] = {
    "adds none": (byte_level, []),
    "has no BOS at all": (lambda: byte_level(bos_token=None), []),
    "BOS by post-processor": (lambda: byte_level(f"{BEGIN} $A"), [0]),
    "BOS and EOS": (lambda: byte_level(f"{BEGIN} $A {END}"), [0]),
    "EOS alone": (lambda: byte_level(f"$A {END}"), []),
    "BOS is EOS": (lambda: byte_level(f"{END} $A", bos_token=END), [1]),
    "another before the BOS": (lambda: byte_level(f"{MASK} {BEGIN} $A"), [2, 0]),
    "BOS that the tokenizer does not call so": (lambda: byte_level(f"{MASK} $A", bos_token=None), [2]),
    "own template with BOS": (with_own_template, [0]),
    "BOS by flag": (lambda: flagged(add_bos_token=True), [1]),
    "BOS and EOS by flag": (lambda: flagged(add_bos_token=True, add_eos_token=True), [1]),
    "no BOS by flag": (lambda: flagged(add_bos_token=False), []),
    "space first": (lambda: sentence_piece("first"), [1]),
    "space always": (lambda: sentence_piece("always"), [1]),
    "space by normalizer": (lambda: sentence_piece(None), [1]),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> tuple[Any, list[int]]:
    make, before = KINDS[request.param]
    return make(), before


def published(tokenizer: Any, folder: Path) -> Any:
    """As a stranger loads it from the adapter's repo."""
    tokenizer.chat_template = PromptEncoder(tokenizer).chat_template
    tokenizer.save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("question", QUESTIONS)
def test_chat_template_gives_the_tokens_of_training(kind: tuple[Any, list[int]], question: str, tmp_path: Path) -> None:
    tokenizer, before = kind
    prompt = to_prompt_completion(question, "", "x", "y").prompt
    trained = PromptEncoder(tokenizer).example(prompt, "R.")
    loaded = published(tokenizer, tmp_path)
    asked = loaded.apply_chat_template([{"role": "user", "content": question}], add_generation_prompt=True)
    assert asked["input_ids"] == trained.ids[: trained.prompt_length]
    assert PromptEncoder(loaded).ids(prompt) == asked["input_ids"]
    assert asked["input_ids"][: len(before)] == before
    assert not {0, 1, 2, *loaded.all_special_ids} & set(asked["input_ids"][len(before) :]) - {loaded.unk_token_id}


def test_the_template_gives_what_the_tokenizer_itself_gives(kind: tuple[Any, list[int]], tmp_path: Path) -> None:
    """As completions of vLLM and llama.cpp tokenize, the EOS behind a prompt excepted."""
    tokenizer, _ = kind
    prompt = to_prompt_completion(QUESTIONS[0], "", "x", "y").prompt
    itself = tokenizer(prompt).input_ids
    asked = published(tokenizer, tmp_path).apply_chat_template(
        [{"role": "user", "content": QUESTIONS[0]}], add_generation_prompt=True
    )["input_ids"]
    assert asked == (itself[:-1] if itself[-1] == tokenizer.eos_token_id else itself)


def test_a_whole_conversation_is_what_training_saw(kind: tuple[Any, list[int]], tmp_path: Path) -> None:
    tokenizer, before = kind
    made = to_prompt_completion(QUESTIONS[1], "", "By size.", "It is kept small.")
    trained = PromptEncoder(tokenizer).example(made.prompt, made.completion)
    turns = to_messages(QUESTIONS[1], "", "By size.", "It is kept small.")
    assert published(tokenizer, tmp_path).apply_chat_template(turns)["input_ids"] == trained.ids
    assert trained.ids.count(tokenizer.eos_token_id) == 1 + before.count(tokenizer.eos_token_id)


HISTORY = [["Recommend a tree.\n\n### Input:\na balcony", "A juniper."], ["盆栽はどう？", "小さな松を。"]]


@pytest.mark.parametrize("turns", [1, 2])
def test_earlier_turns_are_rendered_as_training_saw_them(
    kind: tuple[Any, list[int]], turns: int, tmp_path: Path
) -> None:
    tokenizer, before = kind
    history = HISTORY[:turns]
    made = to_prompt_completion(QUESTIONS[0], "", "By size.", "R.", history)
    trained = PromptEncoder(tokenizer).example(made.prompt, made.completion)
    loaded = published(tokenizer, tmp_path)
    whole = to_messages(QUESTIONS[0], "", "By size.", "R.", history)
    rendered = loaded.apply_chat_template(whole, tokenize=False)
    assert rendered == PromptEncoder(tokenizer).beginning + made.prompt + made.completion + loaded.eos_token
    assert loaded.apply_chat_template(whole)["input_ids"] == trained.ids
    assert trained.ids.count(tokenizer.eos_token_id) == 1 + before.count(tokenizer.eos_token_id)
    asked = loaded.apply_chat_template(whole[:-1], add_generation_prompt=True)["input_ids"]
    assert asked == trained.ids[: trained.prompt_length]


def test_an_earlier_answer_stands_below_its_marker_without_reasoning() -> None:
    made = to_prompt_completion("Why?", "", "By size.", "R.", [["Who?", "She."]])
    assert made.prompt == (
        "### Instruction:\nWho?\n\n### Response:\nShe.\n\n### Instruction:\nWhy?\n\n### Reasoning:\n"
    )
    assert made.completion == "By size.\n\n### Response:\nR."


@pytest.mark.parametrize(
    "earlier",
    ["She.", "### Response:\nShe.", "By name.\n\n### Response:\nShe.", "### Reasoning:\nX\n\n### Response:\nShe."],
)
def test_a_chat_clients_earlier_answer_is_put_into_the_trained_form(earlier: str) -> None:
    """A server returns what follows the Reasoning marker, and a client sends that back as the earlier turn."""
    turns = [("user", "Who?"), ("assistant", earlier), ("user", "Why?")]
    messages = [{"role": role, "content": content} for role, content in turns]
    text = jinja2.Template(CHAT_TEMPLATE).render(messages=messages, eos_token=END, add_generation_prompt=True)
    assert text == to_prompt_completion("Why?", "", "x", "y", [["Who?", "She."]]).prompt


def test_a_prompt_that_begins_with_the_bos_gets_no_other() -> None:
    encoder = PromptEncoder(byte_level(f"{BEGIN} $A"))
    assert encoder.ids(f"{BEGIN}Why?") == encoder.ids("Why?")
    assert encoder.ids("Why?").count(0) == 1


def test_chat_template_without_special_tokens_is_unchanged() -> None:
    assert PromptEncoder(byte_level()).chat_template == CHAT_TEMPLATE


def test_a_server_renders_the_template_with_the_bases_bos() -> None:
    """vLLM is given the template as a file, llama.cpp takes a BOS away that it adds itself."""
    template = PromptEncoder(byte_level(f"{BEGIN} $A")).chat_template
    asked = [{"role": "user", "content": "Why?"}]
    text = jinja2.Template(template).render(messages=asked, bos_token=BEGIN, eos_token=END, add_generation_prompt=True)
    assert text == f"{BEGIN}### Instruction:\nWhy?\n\n### Reasoning:\n"
