"""The compiled codec against json_format, which is the oracle and nothing more."""

import contextlib
import json
import math
from typing import Any

import orjson
import pytest
from google.protobuf import json_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.decode import DEPTH_MAX, Decoder, parse
from gateway.encode import Encoder
from gateway.refusals import VIOLATIONS_MAX, Mismatch, Refused, Violations
from gateway.well_known import STRUCT_DEPTH_MAX, NoJsonForm
from tests.gateway.world import World

SHARED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])

INT32 = st.integers(-(2**31), 2**31 - 1)
UINT32 = st.integers(0, 2**32 - 1)
INT64 = st.integers(-(2**63), 2**63 - 1)
UINT64 = st.integers(0, 2**64 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NAN = st.just(math.nan)  # JSON knows one
FLOAT = st.floats(width=32, allow_nan=False) | NAN
DOUBLE = st.floats(allow_nan=False) | NAN
COLORS = st.sampled_from([0, 1, 2, -1, 77])
SECONDS = st.integers(-62_135_596_800, 253_402_300_799)
NANOS = st.integers(0, 999_999_999) | st.sampled_from([0, 10_000_000, 10_000, 10])
TIMES = st.fixed_dictionaries({"seconds": SECONDS, "nanos": NANOS})
PLAIN = st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
JSON_VALUES = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=6
)
OWNERS = st.fixed_dictionaries({}, optional={"name": TEXT, "phone": TEXT})

FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "text": TEXT,
    "flag": st.booleans(),
    "int32_value": INT32,
    "int64_value": INT64,
    "uint32_value": UINT32,
    "uint64_value": UINT64,
    "sint64_value": INT64,
    "fixed32_value": UINT32,
    "sfixed64_value": INT64,
    "float_value": FLOAT,
    "double_value": DOUBLE,
    "data": st.binary(max_size=9),
    "color": COLORS,
    "maybe_text": TEXT,
    "maybe_number": INT32,
    "texts": st.lists(TEXT, max_size=3),
    "numbers": st.lists(UINT64, max_size=3),
    "colors": st.lists(COLORS, max_size=3),
    "doubles": st.lists(DOUBLE, max_size=3),
    "blobs": st.lists(st.binary(max_size=5), max_size=3),
    "labels": st.dictionaries(TEXT, TEXT, max_size=3),
    "owners": st.dictionaries(INT64, OWNERS, max_size=3),
    "odds": st.dictionaries(st.booleans(), DOUBLE, max_size=2),
    "palette": st.dictionaries(TEXT, COLORS, max_size=3),
    "time": TIMES,
    "times": st.lists(TIMES, max_size=3),
    "renamed": TEXT,
}
CHOICES = st.one_of(
    st.just({}),
    st.builds(lambda x: {"choice_text": x}, TEXT),
    st.builds(lambda x: {"choice_number": x}, INT64),
    st.builds(lambda x: {"choice_owner": x}, OWNERS),
)
# Types that are easier said in JSON than built by hand.
SAID: dict[str, st.SearchStrategy[Any]] = {
    "duration": st.builds(
        lambda s, n, sign: f"{sign}{s}.{n:09d}s",
        st.integers(0, 315_575_999_999),
        NANOS,
        st.sampled_from(["", "-"]),
    ),
    "mask": st.sampled_from(["", "a", "fooBar,x.yZ"]),
    "struct": st.dictionaries(TEXT, JSON_VALUES, max_size=3),
    "value": JSON_VALUES,
    "list": st.lists(JSON_VALUES, max_size=3),
    "any": st.builds(lambda owner: {"@type": "type.googleapis.com/edge.v1.Owner", **owner}, OWNERS)
    | st.just({"@type": "type.googleapis.com/google.protobuf.Duration", "value": "1.500s"}),
    "empty": st.just({}),
    "values": st.lists(JSON_VALUES, max_size=3),
    "stringWrapper": TEXT,
    "int64Wrapper": INT64.map(str),
    "boolWrapper": st.booleans(),
    "bytesWrapper": st.just("+/8="),
    "floatWrapper": st.just(1.5) | st.just("NaN"),
    "choiceNull": st.just(None),
}


@st.composite
def contents(draw: st.DrawFn, depth: int = 2) -> tuple[dict[str, Any], dict[str, Any]]:
    built = draw(st.fixed_dictionaries({}, optional=FIELDS)) | draw(CHOICES)
    said = draw(st.fixed_dictionaries({}, optional=SAID))
    if any(name.startswith("choice_") for name in built):
        said.pop("choiceNull", None)
    return built, said


def made(world: World, content: tuple[dict[str, Any], dict[str, Any]]) -> Any:
    built, said = content
    message = world.new("Everything", **built)
    json_format.ParseDict(said, message, descriptor_pool=world.pool)
    return message


def same(message: Any, other: Any) -> bool:
    """Equality that takes NaN for NaN and tells -0.0 from 0.0."""
    return bool(message.SerializeToString(deterministic=True) == other.SerializeToString(deterministic=True))


def decoded(world: World, data: bytes | str) -> Any:
    message = world.new("Everything")
    document = parse(data.encode() if isinstance(data, str) else data)
    Decoder(world.pool).message(message.DESCRIPTOR)(message, document)
    return message


def encoded(world: World, message: Any) -> Any:
    return Encoder(world.pool).message(message.DESCRIPTOR)(message)


@given(content=contents(), child=contents())
@SHARED
def test_what_is_printed_reads_back_the_same_for_us_and_for_the_oracle(
    world: World, content: tuple[dict[str, Any], dict[str, Any]], child: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    message = made(world, content)
    message.child.CopyFrom(made(world, child))
    message.children.add().CopyFrom(message.child)
    printed = orjson.dumps(encoded(world, message))
    assert same(decoded(world, printed), message)
    oracle = world.new("Everything")
    json_format.Parse(printed, oracle, descriptor_pool=world.pool)
    assert same(oracle, message)


@given(content=contents())
@SHARED
def test_what_the_oracle_prints_reads_the_same_and_looks_the_same(
    world: World, content: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    message = made(world, content)
    printed = json_format.MessageToJson(message, descriptor_pool=world.pool)
    assert same(decoded(world, printed), message)
    ours = orjson.loads(orjson.dumps(encoded(world, message)))
    assert ours == _without_float_noise(json.loads(printed), ours)
    by_original_name = json_format.MessageToJson(
        message, preserving_proto_field_name=True, descriptor_pool=world.pool
    )
    assert same(decoded(world, by_original_name), message)


def _without_float_noise(theirs: Any, ours: Any) -> Any:
    """The oracle's value, with floats that are the same 32-bit float taken as equal."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        return {key: _without_float_noise(value, ours.get(key)) for key, value in theirs.items()}
    if isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        return [_without_float_noise(a, b) for a, b in zip(theirs, ours, strict=True)]
    if (
        isinstance(theirs, (int, float))
        and isinstance(ours, float)
        and math.isclose(theirs, ours, rel_tol=1e-6)
    ):
        return ours
    return theirs


SCRAPS = st.one_of(
    JSON_VALUES,
    st.integers(-(2**70), 2**70),
    st.sampled_from(
        [
            "1",
            "-1",
            "1e3",
            "1.0",
            "0.5",
            "01",
            "1_0",
            "+1",
            "NaN",
            "Infinity",
            "inf",
            "true",
            "COLOR_RED",
            "RED",
        ]
    ),
    st.sampled_from(
        ["2020-02-30T00:00:00Z", "2020-01-01T00:00:00Z", "1s", "-0.5s", "s", "AQI=", "-_", "A", "a,bC"]
    ),
)
NAMES = st.sampled_from(sorted([*FIELDS, *SAID, "choice_text", "newName", "textt", "child", "children"]))


@given(document=st.dictionaries(NAMES, SCRAPS | st.lists(SCRAPS, max_size=2), max_size=3))
@SHARED
def test_what_we_accept_the_oracle_accepts_with_the_same_meaning(
    world: World, document: dict[str, Any]
) -> None:
    try:
        data = orjson.dumps(document)
    except (TypeError, orjson.JSONEncodeError):
        data = json.dumps(document).encode()
    try:
        message = decoded(world, data)
    except Refused:
        return
    if document.get("values", ()) is None:
        return  # the oracle stumbles over null for a repeated Value, which means nothing is there
    oracle = world.new("Everything")
    json_format.Parse(data, oracle, descriptor_pool=world.pool)
    assert same(message, oracle)


@given(data=st.binary(max_size=40) | TEXT.map(str.encode))
@SHARED
def test_no_bytes_raise_anything_but_a_refusal(world: World, data: bytes) -> None:
    with contextlib.suppress(Refused):
        decoded(world, data)


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ('{"text": 5}', {"text"}),
        ('{"nonsense": 1, "more": 2, "text": "x"}', {"nonsense", "more"}),
        ('{"child": {"children": [{}, {"int32Value": "x"}]}}', {"child.children[1].int32_value"}),
        ('{"numbers": [1, -1, "18446744073709551616"]}', {"numbers[1]", "numbers[2]"}),
        ('{"texts": [null]}', {"texts[0]"}),
        ('{"owners": {"1": {"age": 1}, "x": {}}}', {'owners["1"].age', 'owners["x"]'}),
        ('{"labels": {"a": null}}', {'labels["a"]'}),
        ('{"odds": {"yes": 1}}', {'odds["yes"]'}),
        ('{"choiceText": "a", "choiceNumber": "1"}', {"choice_number"}),
        ('{"newName": "a", "renamed": "b"}', {"renamed"}),
        ('{"text": "a", "text": "b"}', {"text"}),
        ('{"labels": {"a": "1", "b": "::", "a": "2"}}', {"a"}),
        ('{"any": {"@type": "type.googleapis.com/no.Such"}}', {"any.@type"}),
        ('{"any": {"name": "x"}}', {"any.@type"}),
        ('{"any": {"@type": "x/google.protobuf.Duration", "seconds": 1}}', {"any.value"}),
        ('{"time": "2001-02-29T00:00:00Z", "duration": "1m", "color": "RED"}', {"time", "duration", "color"}),
        (
            '{"flag": "true", "floatValue": 3.5e38, "doubleValue": true, "data": "A*I="}',
            {"flag", "float_value", "double_value", "data"},
        ),
        (
            '{"int64Value": -9223372036854775809, "uint64Value": 18446744073709551616}',
            {"int64_value", "uint64_value"},
        ),
        ('{"child": [], "children": {}, "owners": []}', {"child", "children", "owners"}),
    ],
)
def test_every_violation_is_named_by_its_path(world: World, text: str, fields: set[str]) -> None:
    with pytest.raises(Refused) as refused:
        decoded(world, text)
    assert {violation.field for violation in refused.value.violations} == fields


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"{}x",
        b"{'a': 1}",
        b'{"text": "\xff"}',
        b"\xff\xfe{\x00}\x00",
        b"\xef\xbb\xbf{}",
        b'{"text": "\\ud800"}',
        b"NaN",
        b'{"doubleValue": NaN}',
        b'{"int32Value": 01}',
        b"[" * 2000,
    ],
)
def test_what_is_no_json_is_refused_with_its_place_and_no_text_of_an_exception(data: bytes) -> None:
    with pytest.raises(Mismatch, match=r"^is not valid JSON \(line \d+, column \d+\)$"):
        parse(data)


def test_a_colon_in_a_string_is_no_key(world: World) -> None:
    assert decoded(world, '{"text": "a\\": {\\"b\\" :", "labels" : {"::" : "x\\":"}}').labels == {"::": 'x":'}


def test_a_key_given_twice_is_found_wherever_its_twin_hides(world: World) -> None:
    for text in ('{"text" :"a","text":"x\\":"}', '{"child":{"text":"a","texts":[],"text"\n:"b"}}'):
        with pytest.raises(Violations) as refused:
            decoded(world, text)
        assert refused.value.violations[0].field == "text"


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        ("1970-01-01T08:00:01+08:00", 1),
        ("1969-12-31T23:30:01-00:30", 1),
        ("0001-01-01T00:00:00Z", -62_135_596_800),
        ("9999-12-31T23:59:59.999999999Z", 253_402_300_799),
        ("0001-01-01T00:00:00+00:01", None),
        ("9999-12-31T23:59:59-00:01", None),
        ("1970-01-01T00:00:00+24:00", None),
        ("1970-01-01T00:00:60Z", None),
        ("1970-01-01t00:00:00Z", None),
        ("1970-01-01T00:00:00", None),
        ("1970-01-01T00:00:00.0000000001Z", None),
        ("\u0661970-01-01T00:00:00Z", None),
    ],
)
def test_times_have_a_zone_and_exist(world: World, time: str, seconds: int | None) -> None:
    text = json.dumps({"time": time})
    if seconds is None:
        with pytest.raises(Refused):
            decoded(world, text)
    else:
        assert decoded(world, text).time.seconds == seconds


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("AQI=", b"\x01\x02"),
        ("AQI", b"\x01\x02"),
        ("-_", b"\xfb"),
        ("", b""),
        ("A", None),
        ("AQI==", None),
        ("=", None),
        ("AQ I", None),
        ("AQI=AQI=", None),
        ("A*I=", None),
    ],
)
def test_bytes_are_base64_of_either_alphabet(world: World, text: str, data: bytes | None) -> None:
    document = json.dumps({"data": text})
    if data is None:
        with pytest.raises(Refused):
            decoded(world, document)
    else:
        assert decoded(world, document).data == data


def test_depth_has_a_limit(world: World) -> None:
    nested = '{"child":' * (DEPTH_MAX - 1) + "{}" + "}" * (DEPTH_MAX - 1)
    assert decoded(world, nested).HasField("child")
    with pytest.raises(Mismatch, match="deeper"):
        decoded(world, '{"child":' + nested + "}")
    struct = '{"n":' * STRUCT_DEPTH_MAX + "1" + "}" * STRUCT_DEPTH_MAX
    assert decoded(world, f'{{"struct": {struct}}}').HasField("struct")
    with pytest.raises(Refused):
        decoded(world, f'{{"struct": {{"n": {struct}}}}}')


def test_violations_are_bounded(world: World) -> None:
    for many in (
        {f"f{n}": 1 for n in range(1000)},
        {"children": [{"x": 1}] * 1000},
        {"numbers": ["x"] * 1000},
    ):
        with pytest.raises(Violations) as refused:
            decoded(world, json.dumps(many))
        assert len(refused.value.violations) == VIOLATIONS_MAX


def test_null_is_absence_but_for_values(world: World) -> None:
    assert same(
        decoded(world, '{"text": null, "texts": null, "labels": null, "time": null}'), world.new("Everything")
    )
    assert decoded(world, '{"value": null}').value.WhichOneof("kind") == "null_value"
    assert decoded(world, '{"choiceNull": null}').WhichOneof("choice") == "choice_null"
    assert decoded(world, '{"choiceText": null, "choiceNumber": 1}').choice_number == 1


def test_what_is_unset_is_left_out_and_what_is_set_to_nothing_is_not(world: World) -> None:
    message = world.new("Everything", maybe_text="", maybe_number=0, child={}, choice_number=0)
    assert encoded(world, message) == {"maybeText": "", "maybeNumber": 0, "child": {}, "choiceNumber": "0"}


def test_floats_are_printed_short(world: World) -> None:
    assert encoded(world, world.new("Everything", float_value=0.1)) == {"floatValue": 0.1}


@pytest.mark.parametrize(
    "fields",
    [
        {"time": {"seconds": -62_135_596_801}},
        {"time": {"nanos": -1}},
        {"duration": {"seconds": 1, "nanos": -1}},
        {"duration": {"seconds": 315_576_000_001}},
        {"mask": {"paths": ["fooBar"]}},
        {"value": {"number_value": math.inf}},
        {"any": {"type_url": "type.googleapis.com/no.Such"}},
        {"any": {"type_url": "type.googleapis.com/edge.v1.Owner", "value": b"\xff"}},
    ],
)
def test_a_message_without_a_json_form_says_so(world: World, fields: dict[str, Any]) -> None:
    with pytest.raises(NoJsonForm):
        encoded(world, world.new("Everything", **fields))
