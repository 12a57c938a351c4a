import pytest

from gateway.http_rule import InvalidTemplate, parse


def shape(text: str) -> tuple[tuple[str, ...], list[tuple[str, int, int]], str]:
    template = parse(text)
    return template.segments, [(v.field, v.start, v.end) for v in template.variables], template.verb


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/v1/shelves", (("v1", "shelves"), [], "")),
        ("/", ((), [], "")),
        ("/*/**", (("*", "**"), [], "")),
        ("/v1/{name}", (("v1", "*"), [("name", 1, 2)], "")),
        ("/v1/{a.b=x/*/**}/c:go", (("v1", "x", "*", "**", "c"), [("a.b", 1, 4)], "go")),
        ("/{a=*}/{b=**}:x", (("*", "**"), [("a", 0, 1), ("b", 1, 2)], "x")),
        ("/a%20b/-._~!$&'()+,;=@", (("a b", "-._~!$&'()+,;=@"), [], "")),
    ],
)
def test_a_template_of_the_grammar_is_understood(text: str, expected: object) -> None:
    assert shape(text) == expected


@pytest.mark.parametrize(
    "text",
    "a a/b /a/ //a /a//b /: /:v /a: /a/*: /{ /{a /{a}} /{} /{a=} /{a=b:v} /{a={b}} /a{b} /{a}b /**/* /**/{a} "
    "/{a=**}/** /a?b /a#b /%2 /%zz /{a.} /{.a} /{a-b} /{1a} /{a}/{a} /a:b/c".split(),
)
def test_a_template_outside_the_grammar_is_refused(text: str) -> None:
    with pytest.raises(InvalidTemplate, match=r"character|only literals"):
        parse(text)


def test_a_star_that_is_escaped_is_a_literal() -> None:
    assert parse("/%2A/*").wild == {1}
