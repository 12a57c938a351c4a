"""A language: its texts, and what stands around them in a letter."""

from collections.abc import Mapping
from dataclasses import dataclass, field

Particulars = Mapping[str, str]
"""What a fact says, by name, e.g. `{"order_id": …, "amount": "9.50 USD"}`. Codes stay codes."""


@dataclass(frozen=True, slots=True)
class Text:
    """The words for one kind of fact, with the names of its particulars in braces."""

    title: str
    body: str
    with_also: Mapping[str, str] = field(default_factory=dict)
    """Sentences that follow if the particular of that name is there."""


@dataclass(frozen=True, slots=True)
class Language:
    """One language."""

    code: str
    """BCP 47, in lower case."""

    greeting: str
    """With `{name}`."""

    greeting_nameless: str
    closing: str
    """Why they get this, and that nobody reads an answer."""

    reasons: Mapping[str, str]
    """What codes mean; `""` is any other code."""

    texts: Mapping[str, Text]
    """By the name of the event, without its package."""

    def says(self, event: str, particulars: Particulars) -> tuple[str, str] | None:
        """Title and body; None if there are no words for that event here, or it lacks what they speak of."""
        text = self.texts.get(event)
        if text is None:
            return None
        reason = self.reasons.get(particulars.get("reason", ""), self.reasons[""])
        values = {**particulars, "reason": reason}
        also = [sentence for name, sentence in text.with_also.items() if particulars.get(name)]
        # Values are never read as patterns: only our own words have braces that mean something.
        try:
            return text.title, " ".join(sentence.format_map(values) for sentence in (text.body, *also))
        except KeyError:
            return None

    def greets(self, name: str) -> str:
        return self.greeting.format(name=name) if name else self.greeting_nameless
