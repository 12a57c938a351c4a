from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.http_rule import Template, parse
from gateway.routes import Conflict, MalformedPath, Router


def router(*templates: str, method: str = "GET") -> Router[str]:
    made: Router[str] = Router()
    for template in templates:
        made.add(method, parse(template), template)
    return made


def taken(found: Router[str], path: str, method: str = "GET") -> tuple[str | None, tuple[str, ...]]:
    hit = found.find(method, path)
    return (None, ()) if hit is None else (hit.route, hit.values)


@pytest.mark.parametrize(
    ("path", "route", "values"),
    [
        ("/a/b", "/a/b", ()),
        ("/a/c", "/a/{x}", ("c",)),
        ("/a/c/d", "/a/{x=**}", ("c/d",)),
        ("/a/c/end", "/a/{x=**}/end", ("c",)),
        ("/a/c/very/end", "/a/{x=**}/very/end", ("c",)),
        ("/a", "/a/{x=**}", ("",)),
        ("/b/1/c/2", "/b/{x}/{y=c/*}", ("1", "c/2")),
    ],
)
def test_literals_go_before_stars_and_longer_tails_before_shorter(
    path: str, route: str, values: tuple[str, ...]
) -> None:
    routes = router("/a/b", "/a/{x}", "/a/{x=**}", "/a/{x=**}/end", "/a/{x=**}/very/end", "/b/{x}/{y=c/*}")
    assert taken(routes, path) == (route, values)


def test_a_wrong_turn_is_taken_back() -> None:
    routes = router("/a/{x}/c/d", "/{x=a/*}/b/{y}", "/a/b/{z=**}/q")
    assert taken(routes, "/a/hello/b/world") == ("/{x=a/*}/b/{y}", ("a/hello", "world"))
    assert taken(routes, "/a/b/c/d") == ("/a/{x}/c/d", ("b",))
    assert taken(routes, "/a/b/c/x/q") == ("/a/b/{z=**}/q", ("c/x",))


def test_a_registered_verb_is_no_part_of_the_value_and_another_is() -> None:
    routes = router("/o/{id}", "/o/{id}:cancel", "/p/{x=**}:go:now")
    assert taken(routes, "/o/1:cancel") == ("/o/{id}:cancel", ("1",))
    assert taken(routes, "/o/1:burn") == ("/o/{id}", ("1:burn",))
    assert taken(routes, "/o/:cancel") == ("/o/{id}", (":cancel",))
    assert taken(routes, "/p/a/b:go:now") == ("/p/{x=**}:go:now", ("a/b",))


@pytest.mark.parametrize("path", ["/a/", "//a", "/a//b", "/A", "/x", "/a/b/", ""])
def test_an_empty_segment_is_a_segment_and_no_value(path: str) -> None:
    routes = router("/a", "/a/{x}", "/a/{x}/{y=**}")
    if path:
        assert routes.find("GET", path) is None
    else:
        with pytest.raises(MalformedPath):
            routes.find("GET", path)


def test_the_root_is_a_path() -> None:
    assert taken(router("/"), "/") == ("/", ())


def test_values_are_decoded_and_slashes_of_long_ones_stay_as_written() -> None:
    routes = router("/one/{x}", "/many/{x=**}", "/pair/{x=a/*}")
    assert taken(routes, "/one/a%2Fb%20%E2%82%AC")[1] == ("a/b €",)
    assert taken(routes, "/many/a%2fb%20c/d%2Fe%2e")[1] == ("a%2fb c/d%2Fe.",)
    assert taken(routes, "/%70air/a/b%2Fc")[1] == ("a/b%2Fc",)


@pytest.mark.parametrize(
    "path", ["/one/%zz", "/one/%2", "/one/%", "/one/%ff", "/one/..", "/one/%2e%2E", "/./one"]
)
def test_a_broken_path_is_refused(path: str) -> None:
    with pytest.raises(MalformedPath):
        router("/one/{x}").find("GET", path)


def test_a_path_without_this_method_names_the_others() -> None:
    routes: Router[str] = Router()
    routes.add("GET", parse("/a/{x}"), "get")
    routes.add("PUT", parse("/a/{y}"), "put")
    routes.add("POST", parse("/a/{y}:go"), "go")
    found = routes.find("DELETE", "/a/1")
    assert found is not None
    assert found.route is None
    assert set(found.allowed) == {"GET", "PUT"}
    assert taken(routes, "/a/1:go", "GET") == ("get", ("1:go",))


def test_a_custom_rule_for_any_method_takes_them_all() -> None:
    routes = router("/a", method="*")
    assert taken(routes, "/a", "PURGE") == ("/a", ())


def test_two_routes_for_the_same_requests_are_a_conflict() -> None:
    routes = router("/a/{x}/b/{y=**}")
    with pytest.raises(Conflict, match="/a/"):
        routes.add("GET", parse("/a/*/b/**"), "again")
    routes.add("POST", parse("/a/*/b/**"), "other method")
    routes.add("GET", parse("/a/{x}/b/{y=**}:go"), "other verb")


NAMES = st.sampled_from(["a", "b", "c"])


@st.composite
def templates(draw: st.DrawFn) -> str:
    parts = draw(st.lists(NAMES | st.just("*"), min_size=1, max_size=4))
    tail = draw(st.sampled_from([[], ["**"], ["**", "a"], ["**", "b", "c"]]))
    return "/" + "/".join(parts + tail) + draw(st.sampled_from(["", ":v"]))


def by_hand(template: Template, path: str) -> bool:
    """Whether a path fits a template, by trying every length of `**`."""
    rest, _, verb = path.partition(":")
    if verb != template.verb:
        return False
    return any(expanded == _shape(rest, expanded) for expanded in _expansions(template, rest.count("/")))


def _expansions(template: Template, length: int) -> Iterator[list[str]]:
    if "**" not in template.segments:
        yield list(template.segments)
        return
    at = template.segments.index("**")
    missing = length - len(template.segments) + 1
    if missing >= 0:
        yield [*template.segments[:at], *["*"] * missing, *template.segments[at + 1 :]]


def _shape(path: str, like: list[str]) -> list[str]:
    segments = path[1:].split("/")
    if len(segments) != len(like):
        return []
    return ["*" if pattern == "*" else segment for segment, pattern in zip(segments, like, strict=True)]


@given(
    st.lists(templates(), min_size=1, max_size=6, unique=True),
    st.lists(NAMES, min_size=1, max_size=6),
    st.sampled_from(["", ":v"]),
)
def test_a_path_is_found_exactly_if_some_template_takes_it(
    texts: list[str], segments: list[str], verb: str
) -> None:
    path = "/" + "/".join(segments) + verb
    routes = router(*texts)
    hit, _ = taken(routes, path)
    fitting = [text for text in texts if by_hand(parse(text), path)]
    as_value = [text for text in texts if verb and by_hand(parse(text), path.replace(":", "-"))]
    assert (hit is not None) == bool(fitting or as_value), (fitting, as_value)
    if fitting:
        assert hit in fitting
