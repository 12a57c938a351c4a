"""A message as a letter: RFC 5322, as text and as HTML. Pure.

Made of the same message, a letter is the same byte for byte: whoever gets one twice has the same Message-ID
twice, by which mailboxes know a repeat.
"""

import re
from dataclasses import dataclass, field
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from html import escape
from string import Template
from typing import Final

from services.notification import wording
from services.notification.domain import Notification
from services.notification.wording.language import Language

NAME_MAX: Final = 100
"""Characters of a name that are shown: a header has lines to fit into."""

# What a browser takes for an address (HTML standard, 4.10.5.1.5), as the user service does. ASCII, without
# blanks, quotes and angle brackets: nothing that could mean something to a mail server.
_ADDRESS: Final = re.compile(
    r"[a-zA-Z0-9.!#$%&'*+/=?^_`{|}~-]+"
    r"@[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*"
)

_HTML: Final = Template("""\
<!DOCTYPE html>
<html lang="$language">
<head><meta charset="utf-8"><title>$title</title></head>
<body style="font-family: sans-serif; line-height: 1.5; max-width: 36em; margin: 2em auto">
<h1 style="font-size: 1.4em">$title</h1>
<p>$greeting</p>
<p>$body</p>
<p style="color: #666; font-size: 0.85em">$closing</p>
</body>
</html>
""")
_TEXT: Final = Template("$greeting\n\n$body\n\n-- \n$closing\n")


class BadAddress(Exception):
    """No mail can be sent to that address. Does not say which: it is somebody's."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """Who gets a letter. Known for the time of a send only."""

    address: str = field(repr=False)
    name: str = field(default="", repr=False)
    """What to call them, in whatever characters they chose."""

    language_code: str = ""
    """BCP 47; empty: the shop's own."""


def letter(
    notification: Notification, recipient: Recipient, *, sender: Address, link: str = ""
) -> EmailMessage:
    """The letter, with the link by which its reader activates their account, if there is one.

    Raises BadAddress.
    """
    language, title, body = _said(notification, recipient.language_code, link)
    name = _on_one_line(recipient.name)
    mail = EmailMessage(policy=SMTP)
    mail["From"] = sender
    mail["To"] = _addressed(recipient.address, name)
    mail["Subject"] = _on_one_line(title)
    mail["Date"] = notification.created_at
    mail["Message-ID"] = f"<{notification.id}@{sender.domain}>"
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no holiday notes in answer, please
    parts = {
        "language": language.code,
        "title": title,
        "greeting": language.greets(name),
        "body": body,
        "closing": language.closing,
    }
    html = {part: escape(words) for part, words in parts.items()}
    if link:
        html["body"] = html["body"].replace(escape(link), f'<a href="{escape(link)}">{escape(link)}</a>')
    # Quoted-printable: some servers still take seven bits only.
    mail.set_content(_TEXT.substitute(parts), cte="quoted-printable")
    mail.add_alternative(_HTML.substitute(html), subtype="html", cte="quoted-printable")
    mail["Content-Language"] = language.code  # here: setting a content forgets what was said of it
    # By default random. Cannot occur in the parts: "=" is always quoted there.
    mail.set_boundary(f"=_{notification.id}")
    return mail


def _said(notification: Notification, language_code: str, link: str) -> tuple[Language, str, str]:
    """In the reader's language if it has words for the fact, else as it was written down.

    What was written down has no link, so with one the shop's own words are said anew too.
    """
    message, event = notification.message, notification.fact.event_type.rpartition(".")[2]
    particulars = {**message.particulars, wording.ACTIVATION_LINK: link} if link else message.particulars
    for language in (wording.spoken(language_code), wording.SHOP):
        if language is wording.SHOP and not link:
            break
        said = language.says(event, particulars)
        if said is not None:
            return language, *said
    return wording.SHOP, message.title, message.body


def _addressed(address: str, name: str) -> Address:
    if not _ADDRESS.fullmatch(address):
        raise BadAddress
    try:
        return Address(display_name=name, addr_spec=address)
    except (ValueError, MessageError):
        raise BadAddress from None  # the cause would show the address


def _on_one_line(words: str) -> str:
    """Without what could end a header or begin another, be it in plain sight or as an encoded word."""
    printable = "".join(character if character.isprintable() else " " for character in words)
    return " ".join(printable.replace("=?", "= ?").split())[:NAME_MAX].rstrip()
