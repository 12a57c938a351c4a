"""What every contract of the house says, as rules over descriptors: each yields a line per violation."""

import re
from collections.abc import Callable, Iterator

from bodega.policy.v1 import policy_pb2
from buf.validate import validate_pb2
from google.api import annotations_pb2, field_behavior_pb2
from google.api.http_pb2 import HttpRule
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions

from services.chassis.contract import DEADLINE_MAX_S, STREAM_DEADLINE_MAX_S
from tests.protos.world import World

Rule = Callable[[World], Iterator[str]]

PREFIX = "/api/v1/"
WELL_KNOWN = "/.well-known/"  # places that a standard names (RFC 8615)

# Facts that read as a state, not as a deed: somebody should look, whatever brought it about.
STATES_AS_FACTS = frozenset(("OrderNeedsAttention", "StockLow"))
DONE = re.compile(r"ed$|^(Sent|Paid|Sold|Built|Made|Taken|Begun|Out|In)$")

SECRET = re.compile(r"(^|_)(password|secret|token|email|phone|phone_number|api_key)(_|$)")
NOT_SECRET = frozenset(("page_token", "next_page_token", "api_key_id"))

# Who calls and serves nothing: the edge, and people at the command line.
CALLERS_ONLY = frozenset(("gateway", "operator"))

_KEYED_BY = re.compile(r"Keyed by ([a-z ]+)\.")
_VARIABLE = re.compile(r"{([^}=]+)(?:=[^}]*)?}")
_WORDS = re.compile(r"[A-Z][a-z0-9]*")


def every_method_has_a_policy(world: World) -> Iterator[str]:
    """Access, deadline and priority are said, so that nothing has to be guessed."""
    for method in world.methods():
        policy = _policy(method)
        if policy is None:
            yield f"{method.full_name}: no bodega.policy.v1.method"
            continue
        if not policy.access.ListFields():
            yield f"{method.full_name}: nobody has access"
        deadline_s = policy.deadline.ToTimedelta().total_seconds()
        longest_s = STREAM_DEADLINE_MAX_S if method.server_streaming else DEADLINE_MAX_S
        if not 0 < deadline_s <= longest_s:
            yield f"{method.full_name}: deadline of {deadline_s:g} s"
        if not policy.priority:
            yield f"{method.full_name}: no priority"


def every_method_says_what_a_repeat_does(world: World) -> Iterator[str]:
    for method in world.methods():
        if not method.GetOptions().HasField("idempotency_level"):
            yield f"{method.full_name}: no idempotency_level"


def everything_has_a_comment(world: World) -> Iterator[str]:
    for name, comment in world.comments.items():
        if not comment:
            yield f"{name}: no comment"


def what_can_be_wrong_is_validated(world: World) -> Iterator[str]:
    """Every field that a request can carry, however deep, has a rule, or consists of fields that have."""
    seen: set[str] = set()
    waiting = [method.input_type for method in world.methods()]
    while waiting:
        message = waiting.pop()
        if message.full_name in seen:
            continue
        seen.add(message.full_name)
        for field in message.fields:
            if _is_judged(world, field) and not _has_rule(field):
                yield f"{field.full_name}: no buf.validate rule"
        waiting += [
            field.message_type
            for field in message.fields
            if field.message_type and world.owns(field.message_type) and not _is_output(field)
        ]


def writes_carry_a_request_id(world: World) -> Iterator[str]:
    for method in world.methods():
        field = method.input_type.fields_by_name.get("request_id")
        level = method.GetOptions().idempotency_level
        if level == MethodOptions.IDEMPOTENT and (field is None or field.type != FieldDescriptor.TYPE_STRING):
            yield f"{method.full_name}: a write without string request_id"
        if level == MethodOptions.NO_SIDE_EFFECTS and field is not None:
            yield f"{method.full_name}: a read with request_id"


def lists_come_in_pages(world: World) -> Iterator[str]:
    """Except where a standard of others says what the list looks like."""
    for method in world.methods():
        if not re.match(r"List[A-Z]", method.name) or not world.owns(method.output_type):
            continue
        for name in ("page_size", "page_token"):
            if name not in method.input_type.fields_by_name:
                yield f"{method.full_name}: no {name}"
        if "next_page_token" not in method.output_type.fields_by_name:
            yield f"{method.full_name}: no next_page_token"


def secrets_are_marked(world: World) -> Iterator[str]:
    texts = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)
    for field in world.fields():
        if field.type not in texts or field.name in NOT_SECRET or not SECRET.search(field.name):
            continue
        if not field.GetOptions().debug_redact:
            yield f"{field.full_name}: no debug_redact"


def a_state_is_called_state(world: World) -> Iterator[str]:
    for field in world.fields():
        if field.enum_type and re.search(r"(^|_)status$", field.name):
            yield f"{field.full_name}: should be called state"
    for enum in world.enums():
        zero = enum.values_by_number.get(0)
        if zero is None or not zero.name.endswith("_UNSPECIFIED"):
            yield f"{enum.full_name}: 0 is not _UNSPECIFIED"


def times_are_called_time(world: World) -> Iterator[str]:
    """In what is told; what is asked may be `created_after`."""
    for field in world.fields():
        asked = str(field.containing_type and field.containing_type.name).endswith("Request")
        kind = field.message_type.full_name if field.message_type and not asked else ""
        if kind == "google.protobuf.Timestamp" and not re.search(r"(^|_)time$", field.name):
            yield f"{field.full_name}: should end in _time"


def http_paths_are_ours(world: World) -> Iterator[str]:
    """All under one prefix, with variables that the request has."""
    for method in world.methods():
        for path in _paths(method):
            if not path.startswith((PREFIX, WELL_KNOWN)):
                yield f"{method.full_name}: {path} is not under {PREFIX}"
            for variable in _VARIABLE.findall(path):
                if _field(method.input_type, variable) is None:
                    yield f"{method.full_name}: the request has no {variable}"


def owners_are_in_the_request(world: World) -> Iterator[str]:
    for method in world.methods():
        policy = _policy(method)
        if policy is None or not policy.access.owner:
            continue
        field = _field(method.input_type, policy.access.owner)
        if field is None or field.type != FieldDescriptor.TYPE_STRING:
            yield f"{method.full_name}: owner {policy.access.owner} is no string of the request"


def what_was_created_is_found_by_the_reply(world: World) -> Iterator[str]:
    for method in world.methods():
        policy = _policy(method)
        if policy is None or not policy.created:
            continue
        if not policy.created.startswith(PREFIX):
            yield f"{method.full_name}: created {policy.created} is not under {PREFIX}"
        for variable in _VARIABLE.findall(policy.created):
            if _field(method.output_type, variable) is None:
                yield f"{method.full_name}: the reply has no {variable}"


def streams_are_numbered_and_resumed_by_fields_there_are(world: World) -> Iterator[str]:
    for method in world.methods():
        policy = _policy(method)
        if policy is None:
            continue
        cursor, resume = policy.stream_cursor, policy.resume_field
        if (cursor or resume) and not method.server_streaming:
            yield f"{method.full_name}: a cursor on what is no stream"
        if resume and not cursor:
            yield f"{method.full_name}: resumes by {resume}, but numbers no message"
        if cursor and _field(method.output_type, cursor) is None:
            yield f"{method.full_name}: the reply has no {cursor}"
        if resume and _field(method.input_type, resume) is None:
            yield f"{method.full_name}: the request has no {resume}"


def workloads_are_services_of_the_house(
    world: World, services: frozenset[str] | None = None
) -> Iterator[str]:
    known = services or frozenset(_service(file.package) for file in world.files if file.services_by_name)
    for method in world.methods():
        policy = _policy(method)
        for workload in policy.access.workloads if policy else ():
            if workload not in known | CALLERS_ONLY:
                yield f"{method.full_name}: there is no service {workload}"


def events_say_what_happened_to_what(world: World) -> Iterator[str]:
    """In the past tense, with the id they are keyed by (`Keyed by x.` in the comment; else the service's)."""
    for file in world.files:
        if not file.name.endswith("_events.proto"):
            continue
        messages = list(file.message_types_by_name.values())
        parts = {field.message_type.full_name for m in messages for field in m.fields if field.message_type}
        for event in messages:
            if event.full_name in parts:
                continue
            if event.name not in STATES_AS_FACTS and not any(map(DONE.search, _WORDS.findall(event.name))):
                yield f"{event.full_name}: not in the past tense"
            keyed = _KEYED_BY.search(world.comments[event.full_name])
            noun = keyed.group(1).replace(" ", "_") if keyed else _service(file.package)
            if f"{noun}_id" not in event.fields_by_name:
                yield f"{event.full_name}: does not carry its {noun}_id"


RULES: tuple[Rule, ...] = (
    every_method_has_a_policy,
    every_method_says_what_a_repeat_does,
    everything_has_a_comment,
    what_can_be_wrong_is_validated,
    writes_carry_a_request_id,
    lists_come_in_pages,
    secrets_are_marked,
    a_state_is_called_state,
    times_are_called_time,
    http_paths_are_ours,
    owners_are_in_the_request,
    what_was_created_is_found_by_the_reply,
    streams_are_numbered_and_resumed_by_fields_there_are,
    workloads_are_services_of_the_house,
    events_say_what_happened_to_what,
)


def _policy(method: MethodDescriptor) -> policy_pb2.MethodPolicy | None:
    options = method.GetOptions()
    return options.Extensions[policy_pb2.method] if options.HasExtension(policy_pb2.method) else None


def _service(package: str) -> str:
    """`bodega.order.v1` is of `order`."""
    return package.split(".")[1]


def _is_judged(world: World, field: FieldDescriptor) -> bool:
    if field.type == FieldDescriptor.TYPE_BOOL or _is_output(field):
        return False
    kind = field.message_type
    if kind is None or field.is_repeated:
        return True
    # A mask is judged when it is applied; a message of ours by its own fields.
    return kind.full_name != "google.protobuf.FieldMask" and not world.owns(kind)


def _is_output(field: FieldDescriptor) -> bool:
    behaviours = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
    return field_behavior_pb2.OUTPUT_ONLY in behaviours


def _has_rule(field: FieldDescriptor) -> bool:
    options = field.GetOptions()
    return bool(options.Extensions[validate_pb2.field].ListFields())


def _paths(method: MethodDescriptor) -> Iterator[str]:
    options = method.GetOptions()
    if options.HasExtension(annotations_pb2.http):
        rule: HttpRule = options.Extensions[annotations_pb2.http]
        for binding in (rule, *rule.additional_bindings):
            kind = binding.WhichOneof("pattern")
            yield binding.custom.path if kind == "custom" else getattr(binding, kind)


def _field(message: Descriptor | None, path: str) -> FieldDescriptor | None:
    field = None
    for name in path.split("."):
        field = message.fields_by_name.get(name) if message else None
        message = field.message_type if field else None
    return field
