"""What makes a model answer in French from the start: an instruction, an opening, and a bias against English words.

Pure functions over messages and tokens; `docs/steering.md` has what each was measured to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:  # 30 ms that only those pay who look for tokens
    from tokenizers import Tokenizer

# From the start, beside whatever the application asks of its assistant: so it says nothing but the language.
INSTRUCTION: Final = "Tu réponds toujours en français, dans une langue claire, correcte et naturelle."
# For an answer that has left French once.
FIRM_INSTRUCTION: Final = (
    "Réponds uniquement en français. Toute ta réponse doit être rédigée en français correct, sans aucune phrase dans une "
    "autre langue, quelle que soit la langue de la question ou des documents."
)
# For an answer that was asked for in other languages, which are named by their codes.
FIRM_INSTRUCTION_FOR: Final = (
    "Réponds uniquement en français ou dans la langue demandée ({}), sans aucune phrase dans une autre langue."
)
# How a sentence begins, in French, after an answer has left French: delivered with what the model makes of it.
CONNECTIVES: Final = ("De plus,", "Par ailleurs,")
# The model goes on from here, so it begins in French; the opening itself is not delivered.
OPENING: Final = "Voici ma réponse, en français :"

# A nat is what the model's own preference counts in: e^-8 makes a word 3,000 times less likely, and still not impossible.
BIAS: Final = -8.0

FRENCH_WORDS: Final = Path(__file__).parent / "data" / "french_words.txt"
ENGLISH_WORDS: Final = tuple(
    "the this that these those there their they them then than an and or but if is are was were be been being am has have "
    "had having do does did can could will would shall should may might must to of in on at by for from with without "
    "within into onto about above after before because between through during against while until since although however "
    "therefore i you your yours he his him she her it its we our us my me who whom whose which what when where why how "
    "not no yes as so such some any all each every both either neither other another only just also very more most much "
    "many here please sure sorry let".split()
)
# How vocabularies write the space before a word: byte-level BPE (GPT-2, Falcon, Llama 3) and SentencePiece (Llama 2, Gemma).
_SPACES: Final = ("Ġ", "▁")


def instructed(messages: Sequence[dict[str, Any]], instruction: str) -> list[dict[str, Any]]:
    """The conversation with `instruction` at the end of its system message, or as one where it begins with none."""
    first = messages[0]
    if first["role"] in ("system", "developer") and isinstance(first.get("content"), str):
        return [{**first, "content": f"{first['content']}\n\n{instruction}"}, *messages[1:]]
    return [{"role": "system", "content": instruction}, *messages]


def opened(messages: Sequence[dict[str, Any]], begun: str = OPENING) -> dict[str, Any]:
    """The fields by which vLLM goes on from what has `begun`, which its answer then does not repeat."""
    return {
        "messages": [*messages, {"role": "assistant", "content": begun}],
        "add_generation_prompt": False,
        "continue_final_message": True,
    }


def english_tokens(tokenizer: Tokenizer, french: Sequence[str] = ()) -> list[int]:
    """The tokens, in order, that are a whole English function word at the beginning of a word, and never a part of French.

    Left out are words that a French word begins with (`is`: issue, isoler), and tokens that are needed to write any of
    `french`, by default the words of `FRENCH_WORDS`, anywhere in a text.
    """
    words = list(french) or french_words()
    begun = {word[:end] for word in words for end in range(1, len(word) + 1)}
    unmistakable = [word for word in ENGLISH_WORDS if word not in begun]
    # At the head of a line, after a space, and after an apostrophe. Capitals need no look: what begins so is left out above.
    written = [form for word in words for form in (word, f"« {word} »", f"l'{word}")]
    needed = {token for code in tokenizer.encode_batch(written, add_special_tokens=False) for token in code.ids}
    known = {tokenizer.token_to_id(piece) for word in unmistakable for piece in _pieces(word)}
    return sorted(token for token in known if token is not None and token not in needed)


def logit_bias(tokens: Iterable[int], bias: float = BIAS) -> dict[str, float]:
    """OpenAI's field of that name: what is added to the logit of each token, -100 to 100.

    vLLM ignores it without a word where it decodes speculatively.
    """
    return {str(token): bias for token in tokens}


def french_words() -> list[str]:
    """The words of `FRENCH_WORDS`."""
    lines = FRENCH_WORDS.read_text(encoding="utf-8").splitlines()
    return [word for line in lines if not line.startswith("#") for word in line.split()]


def _pieces(word: str) -> Iterator[str]:
    """How a vocabulary may write a word's beginning: after a space, and capitalised where a line begins too."""
    capital = word.capitalize()
    yield capital
    for space in _SPACES:
        yield space + word
        yield space + capital
