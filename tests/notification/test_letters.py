from email import message_from_bytes
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notification.domain import Channel, Fact, Message, Notification
from services.notification.letters import BadAddress, Recipient, letter
from services.notification.templates import TEMPLATES
from services.notification.wording import LANGUAGES, SHOP, spoken
from tests.notification.test_domain import AT

SHOP_ADDRESS = Address("Bodega", addr_spec="shop@bodega.example")
HEADERS = [
    "Auto-Submitted", "Content-Language", "Content-Type", "Date", "From", "MIME-Version", "Message-ID",
    "Subject", "To",
]  # fmt: skip


def notification(
    event: str = "OrderConfirmed",
    title: str = "Order confirmed",
    body: str = "It is paid.",
    **particulars: str,
) -> Notification:
    return Notification.write(
        "0190bbbb-0000-5000-8000-000000000001",
        Message("u1", title, body, particulars.get("order_id", ""), particulars),
        Fact("e1", f"bodega.order.v1.{event}"),
        channel=Channel.EMAIL,
        at=AT,
    )


def posted(written: Notification, recipient: Recipient) -> EmailMessage:
    """As whoever receives it reads it."""
    read = message_from_bytes(
        letter(written, recipient, sender=SHOP_ADDRESS).as_bytes(), EmailMessage, policy=SMTP
    )
    assert isinstance(read, EmailMessage)
    return read


def texts(mail: EmailMessage) -> tuple[str, str]:
    plain, html = mail.iter_parts()
    assert isinstance(plain, EmailMessage)
    assert isinstance(html, EmailMessage)
    return plain.get_content(), html.get_content()


def test_a_letter_says_the_same_as_text_and_as_html() -> None:
    mail = posted(notification(), Recipient("ada@example.com", "Ada"))
    assert mail.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in mail.iter_parts()] == ["text/plain", "text/html"]
    for said in texts(mail):
        assert "Hello Ada," in said
        assert "It is paid." in said
        assert SHOP.closing in said
    assert mail["Subject"] == "Order confirmed"
    assert mail["Message-ID"] == "<0190bbbb-0000-5000-8000-000000000001@bodega.example>"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["Date"].datetime == AT


def test_the_same_message_is_the_same_letter_byte_for_byte() -> None:
    first, second = (
        letter(notification(), Recipient("ada@example.com", "Ada"), sender=SHOP_ADDRESS).as_bytes()
        for _ in range(2)
    )
    assert first == second


def test_names_are_text_in_html_too() -> None:
    _, html = texts(posted(notification(body="1 < 2 & 3"), Recipient("ada@example.com", "<script>&\"'")))
    assert "<script>" not in html
    assert "Hello &lt;script&gt;&amp;&quot;&#x27;," in html
    assert "1 &lt; 2 &amp; 3" in html


@pytest.mark.parametrize(
    "name",
    [
        "Ada\nBcc: eve@example.com",
        "Ada\r\nBcc: eve@example.com\r\n\r\nBuy now",
        "Ada\rBcc: eve@example.com",
        "Ada\u2028Bcc: eve@example.com",
        "Ada\x00\x0b\x0c\x85Bcc: eve@example.com",
        "=?utf-8?q?Ada=0D=0ABcc:_eve@example.com?=",
        'Ada" <eve@example.com>, "',
        "Ada, eve@example.com",
    ],
)
def test_a_name_cannot_become_a_header_or_a_recipient(name: str) -> None:
    mail = posted(notification(), Recipient("ada@example.com", name))
    assert sorted(mail.keys()) == HEADERS
    assert [to.addr_spec for to in mail["To"].addresses] == ["ada@example.com"]


@given(st.text(max_size=150))
def test_no_name_whatever_breaks_a_letter(name: str) -> None:
    mail = posted(notification(), Recipient("ada@example.com", name))
    assert sorted(mail.keys()) == HEADERS
    assert [to.addr_spec for to in mail["To"].addresses] == ["ada@example.com"]
    assert not mail.defects
    assert all("It is paid." in said for said in texts(mail))


def test_names_keep_their_characters() -> None:
    name = "Žofie Łąka 李雷 😀"
    mail = posted(notification(), Recipient("ada@example.com", name))
    assert mail["To"].addresses[0].display_name == name
    assert all(f"Hello {name}," in said for said in texts(mail))
    assert mail.as_bytes().isascii()


def test_a_name_cannot_colour_hide_or_turn_what_is_around_it() -> None:
    mail = posted(notification(), Recipient("ada@example.com", "Ada\x00\x1b[31m\u202e\u200bEve"))
    shown = mail["To"].addresses[0].display_name
    assert shown == "Ada [31m Eve"
    assert all(f"Hello {shown}," in said for said in texts(mail))


def test_who_has_no_name_is_greeted_all_the_same() -> None:
    plain, _ = texts(posted(notification(), Recipient("ada@example.com", "\n")))
    assert plain.startswith("Hello,")


@pytest.mark.parametrize(
    "address",
    [
        "", "ada", "ada@", "@example.com", "ada@example.com\r\nRCPT TO:<eve@example.com>", "ada@example.com ",
        "ada@example.com>", '"ada eve"@example.com', "ada@exämple.com", "äda@example.com",
        "ada..eve@example.com",
        "ada@example.com, eve@example.com", "ada@example.com\n",
    ],
)  # fmt: skip
def test_a_bad_address_is_refused_without_being_repeated(address: str) -> None:
    with pytest.raises(BadAddress) as refused:
        letter(notification(), Recipient(address, "Ada"), sender=SHOP_ADDRESS)
    assert refused.value.args == ()
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


def test_a_recipient_does_not_show_who_it_is() -> None:
    assert repr(Recipient("ada@example.com", "Ada", "de")) == "Recipient(language_code='de')"


def test_a_letter_is_in_its_readers_language() -> None:
    written = notification("OrderRejected", order_id="o1", reason="OUT_OF_STOCK")
    mail = posted(written, Recipient("ada@example.com", "Ada", "de-AT"))
    plain, html = texts(mail)
    assert mail["Content-Language"] == "de"
    assert mail["Subject"] == "Bestellung nicht möglich"
    assert '<html lang="de">' in html
    assert "Hallo Ada," in plain
    assert "weil etwas daraus ausverkauft ist" in plain


@pytest.mark.parametrize(
    "written", [notification("OrderConfirmed"), notification("SomethingNew", order_id="o1")]
)
def test_without_the_words_a_letter_is_in_the_shops_language(written: Notification) -> None:
    mail = posted(written, Recipient("ada@example.com", "Ada", "de"))
    plain, _ = texts(mail)
    assert (mail["Content-Language"], mail["Subject"]) == ("en", "Order confirmed")
    assert "Hello Ada," in plain
    assert "It is paid." in plain


@pytest.mark.parametrize(
    ("tag", "code"),
    [
        ("", "en"),
        ("en-GB", "en"),
        ("de", "de"),
        ("DE-at", "de"),
        ("de-Latn-CH", "de"),
        ("pt-BR", "en"),
        ("den", "en"),
    ],
)
def test_a_language_is_looked_up_from_its_end(tag: str, code: str) -> None:
    assert spoken(tag).code == code


def test_every_language_has_the_words_for_every_fact() -> None:
    told = {name.rpartition(".")[2] for templates in TEMPLATES.values() for name in templates}
    everything = {
        "order_id": "ORDER", "amount": "AMOUNT", "reason": "OUT_OF_STOCK", "tracking_reference": "TRACKING",
    }  # fmt: skip
    for language in LANGUAGES.values():
        assert set(language.texts) == told
        assert language.reasons.keys() == SHOP.reasons.keys()
        for event in told:
            ours, theirs = SHOP.says(event, everything), language.says(event, everything)
            assert ours is not None
            assert theirs is not None
            for value in ("ORDER", "AMOUNT", "TRACKING"):
                assert (value in theirs[1]) == (value in ours[1])


def test_what_a_fact_says_is_never_read_as_a_pattern() -> None:
    said = SHOP.says("OrderCancelled", {"order_id": "{reason} %s $body"})
    assert said is not None
    assert "{reason} %s $body" in said[1]
    plain, html = texts(posted(notification(body="$closing {x}"), Recipient("ada@example.com", "$body {y}")))
    assert "$closing {x}" in plain
    assert "Hello $body {y}," in html
