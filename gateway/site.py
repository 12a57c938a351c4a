"""The routes of a descriptor set, each with everything a request needs, made once at start."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool

from gateway import descriptors, framing, limits
from gateway.backends import Backends, BadBackend
from gateway.decode import Decoder
from gateway.descriptors import BadDescriptorSet
from gateway.encode import Encoder
from gateway.errors import Renderer
from gateway.fields import BadField
from gateway.framing import StreamRendering
from gateway.http_rule import InvalidTemplate, Rule, rules
from gateway.isolation import CIRCUITS, Isolation, Ward
from gateway.limits import Limit
from gateway.metrics import Metrics, RouteMetrics, StreamMetrics
from gateway.routes import Conflict, Router
from gateway.transcode import ReplyRendering, RequestBinding
from services.chassis import contract
from services.chassis.contract import ContractError, Method
from services.chassis.metrics import LimiterFigures, observe_program
from services.chassis.metrics import Metrics as CallMetrics
from services.chassis.policy import access, circuit
from services.chassis.policy.limiter import Limiter, Pace, Priority, Range, priority_of
from services.chassis.server.address import EDGE

Call = Callable[..., Any]


class CannotServe(Exception):
    """The edge cannot serve what it was given; one clear line."""


@dataclass(slots=True)
class Route:
    """One rule of one method."""

    method: Method
    rule: Rule
    target: str
    request: RequestBinding
    reply: ReplyRendering
    metrics: RouteMetrics
    deadline_s: float | None
    """None: the contract of a stream names none."""

    stream: "StreamRoute | None"
    access: access.Rule | None
    """Who may ask; None: that is not our business."""

    rates: tuple[Limit, ...]
    """How often one may ask, beside what holds for all routes."""

    takes_stream: bool
    """From the client, which is more than HTTP/1.1 can carry."""

    priority: Priority
    pace: Pace
    """How fast it usually is."""

    ward: Ward
    """Keeps its backend's trouble to itself."""

    call: Call | None = None
    """Set while channels are open."""


@dataclass(frozen=True, slots=True)
class StreamRoute:
    """What a route that answers with a stream has beside the others."""

    rendering: StreamRendering
    metrics: StreamMetrics


@dataclass(slots=True)
class Site:
    """Everything that is served."""

    router: Router[Route]
    routes: list[Route]
    renderer: Renderer
    metrics: Metrics
    limiter: Limiter
    """How many requests are worked on at once."""

    isolation: Isolation
    methods: dict[str, Method]
    """By path, all that there are, also those without a route."""


# Most wait for a backend, which costs the edge little; the least still are not a fifth of a second's work.
AT_ONCE: Final = Range(first=1024, least=256, most=8192)


def build(
    files: descriptor_pb2.FileDescriptorSet,
    backends: Backends,
    *,
    with_access: bool = False,
    at_once: Range = AT_ONCE,
    circuits: circuit.Limits = CIRCUITS,
) -> Site:
    """`with_access`: every route must say who may ask. Raises CannotServe."""
    try:
        pool, found = descriptors.load(files)
        methods = list(contract.methods(*found))
        backends.check({method.service for method in methods})
    except (BadDescriptorSet, BadBackend) as error:
        raise CannotServe(str(error)) from None
    encoder = Encoder(pool, descriptor_pool.Default())
    limiter = Limiter(at_once)
    metrics = Metrics()
    observe_program(metrics.registry)
    metrics.registry.register(LimiterFigures("http_server", limiter))
    isolation = Isolation(CallMetrics(metrics.registry), limiter, circuits)
    compiler = _Compiler(
        backends, Decoder(pool), encoder, metrics, limiter, isolation, with_access=with_access
    )
    by_path = {method.path: method for method in methods}
    site = Site(Router(), [], Renderer(encoder), metrics, limiter, isolation, by_path)
    for method in methods:
        try:
            for rule in rules(method.descriptor):
                route = compiler.route(method, rule)
                site.router.add(rule.http_method, rule.template, route)
                site.routes.append(route)
        except (InvalidTemplate, BadField, Conflict, BadBackend) as error:
            raise CannotServe(f"{method.path[1:]}: {error}") from None
        except ContractError as error:
            raise CannotServe(str(error)) from None
    if not site.routes:
        raise CannotServe("no method in the descriptor set has a google.api.http rule")
    return site


@dataclass(frozen=True, slots=True)
class _Compiler:
    backends: Backends
    decoder: Decoder
    encoder: Encoder
    metrics: Metrics
    limiter: Limiter
    isolation: Isolation
    with_access: bool

    def route(self, method: Method, rule: Rule) -> Route:
        reply = ReplyRendering(method, rule, self.encoder)
        labels = (rule.http_method, rule.template.text)
        streams = method.descriptor.server_streaming
        target = self.backends.target(method.service)
        priority = priority_of(method)
        return Route(
            method,
            rule,
            target,
            RequestBinding(method, rule, self.decoder),
            reply,
            self.metrics.route(*labels),
            _stream_deadline_s(method) if streams else method.deadline_s,
            StreamRoute(framing.rendering(method, reply), self.metrics.stream(*labels)) if streams else None,
            _rule(method) if self.with_access else None,
            limits.of(method),
            takes_stream=bool(method.descriptor.client_streaming),
            priority=priority,
            pace=self.limiter.pace(priority),
            ward=self.isolation.ward(target, method),
        )


def _rule(method: Method) -> access.Rule:
    """Raises ContractError for what is for the edge alone: services know it by whom they are called."""
    rule = access.rule(method)
    if EDGE in rule.workloads:
        raise ContractError(f"{method.path} is for the edge itself and cannot have an HTTP rule")
    return rule


def _stream_deadline_s(method: Method) -> float | None:
    policy = method.policy
    if policy is None or not policy.HasField("deadline"):
        return None
    return float(policy.deadline.ToTimedelta().total_seconds())
