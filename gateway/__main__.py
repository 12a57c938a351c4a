"""`python -m gateway`: serves a descriptor set's services over REST."""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import yaml
from pydantic import ValidationError

from gateway import app, descriptors
from gateway.addresses import FORWARDED, FORWARDED_FOR
from gateway.app import DRAIN_MAX_S, Gateway, Settings
from gateway.bodies import BODY_BYTES_MAX
from gateway.descriptors import BadDescriptorSet
from gateway.limits import Plan
from gateway.site import CannotServe
from services.chassis import config, event_loop, failpoints, telemetry, tracing
from services.chassis.config import SettingsRefused
from services.chassis.identity.config import IdentitySettings
from services.chassis.tls import TlsFiles
from services.chassis.tracing.config import TracingSettings
from services.kernel.clock import SystemClock
from services.kernel.ids import TimeOrderedIds

_EXIT_CANNOT_SERVE: Final = 2

# A page of a shop makes ten requests or so; an office of fifty shoppers shares an address.
ADDRESS_LIMIT: Final = "6000/minute"
CALLER_LIMIT: Final = "1200/minute"

LIMIT_STORE_SECRET: Final = "BODEGA_GATEWAY__LIMIT_STORE"  # noqa: S105 (its name)
"""The variable, or in lower case the file in the secrets directory."""

_UNTOLD: Final = TracingSettings()

_log = telemetry.logger("gateway")


def main() -> int:
    arguments = _arguments()
    telemetry.configure_logging("gateway", arguments.log_level)
    try:
        if arguments.production:
            _check_production(arguments)
        settings = _settings(arguments)
        tracing.configure(settings.tracing, service="gateway", instance=TimeOrderedIds(SystemClock()).new())
        gateway = app.build(descriptors.read(arguments.descriptor_set), arguments.backend, settings)
        event_loop.run(_serve(gateway))
    except (BadDescriptorSet, CannotServe) as error:
        print(f"gateway: {error}", file=sys.stderr)  # noqa: T201 (for whoever typed the command)
        return _EXIT_CANNOT_SERVE
    finally:
        tracing.close()
    return 0


def _settings(arguments: argparse.Namespace) -> Settings:
    return Settings(
        host=arguments.host,
        port=arguments.port,
        operations_port=arguments.operations_port,
        body_bytes_max=arguments.max_body_bytes,
        drain_max_s=arguments.drain_seconds,
        identity=_identity(arguments),
        rates=_rates(arguments),
        proxies=tuple(arguments.trusted_proxy),
        forwarded_by=arguments.forwarded_by,
        origins=tuple(arguments.allow_origin),
        https_only=arguments.https_only,
        mesh=_mesh(arguments),
        backend_plaintext=arguments.backend_plaintext,
        tracing=_tracing(arguments),
    )


async def _serve(gateway: Gateway) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with app.running(gateway) as running:
        app.settle()
        _log.info(
            "serving",
            host=gateway.settings.host,
            port=running.port,
            operations_port=running.operations_port,
            routes=len(gateway.site.routes),
        )
        await running.until(stop)
        _log.info("draining")
    _log.info("stopped")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="gateway", description=__doc__)
    parser.add_argument(
        "--descriptor-set", type=Path, required=True, help="a FileDescriptorSet with its imports"
    )
    parser.add_argument(
        "--backend",
        action="append",
        required=True,
        metavar="[PKG.SERVICE=]TARGET",
        help="where a service is: host:port, ipv4:host:port,… or dns:///host:port; without a name: all"
        " services that are not named",
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=_port, required=True, help="0: any free one (the log says which)")
    parser.add_argument("--operations-port", type=_port, help="for /metrics and /health/*; none by default")
    parser.add_argument("--max-body-bytes", type=int, default=BODY_BYTES_MAX)
    parser.add_argument("--drain-seconds", type=float, default=DRAIN_MAX_S)
    asking = parser.add_argument_group("who asks")
    asking.add_argument(
        "--access",
        action="store_true",
        help="each method's policy decides who may ask; tokens are believed if they are the shop's own",
    )
    asking.add_argument(
        "--identity", type=Path, metavar="YAML", help="whose tokens else, as the services' settings have it"
    )
    asking.add_argument(
        "--trusted-proxy",
        action="append",
        default=[],
        metavar="NETWORK",
        help="whose word for their clients' addresses is taken, e.g. 10.0.0.0/8",
    )
    asking.add_argument("--forwarded-by", choices=(FORWARDED_FOR, FORWARDED), default=FORWARDED_FOR)
    often = parser.add_argument_group(
        "how often", "e.g. 600/minute; empty: no limit. Limits of single methods are in their policies"
    )
    often.add_argument("--limit-address", default=ADDRESS_LIMIT, metavar="LIMIT", help=f"{ADDRESS_LIMIT}")
    often.add_argument("--limit-account", default=CALLER_LIMIT, metavar="LIMIT", help=f"{CALLER_LIMIT}")
    often.add_argument("--limit-key", default=CALLER_LIMIT, metavar="LIMIT", help=f"{CALLER_LIMIT}")
    often.add_argument(
        "--limit-exempt", action="append", default=[], metavar="NETWORK", help="is not counted at all"
    )
    often.add_argument(
        "--limit-store",
        default="",
        metavar="URL",
        help=f"redis://…, for all edges; else each counts alone. With a password: {LIMIT_STORE_SECRET}",
    )
    browsers = parser.add_argument_group("browsers")
    browsers.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="whose pages may read answers, e.g. https://shop.example (CORS); `*`: everyone's",
    )
    browsers.add_argument(
        "--https-only",
        action="store_true",
        help="browsers are told to come by TLS, which someone in front ends",
    )
    mesh = parser.add_argument_group(
        "mesh", "who we are to the backends; without, they are called in plaintext, and on this machine only"
    )
    mesh.add_argument("--mesh-certificate", type=Path, metavar="PEM", help="ours")
    mesh.add_argument("--mesh-key", type=Path, metavar="PEM", help="if not in the same file")
    mesh.add_argument("--mesh-authorities", type=Path, metavar="PEM", help="whose certificates we trust")
    mesh.add_argument(
        "--backend-plaintext", action="store_true", help="plaintext may leave this machine, to a sidecar say"
    )
    spans = parser.add_argument_group("tracing")
    spans.add_argument(
        "--otlp-endpoint",
        default="",
        metavar="URL",
        help="a collector, e.g. http://localhost:4317; none by default",
    )
    spans.add_argument(
        "--sample-ratio",
        type=float,
        default=_UNTOLD.sample_ratio,
        help="of how many requests there are spans",
    )
    spans.add_argument(
        "--slow-seconds",
        type=float,
        default=_UNTOLD.slow_s,
        help="requests that take this long have one always",
    )
    parser.add_argument(
        "--production", action="store_true", help="refuses what only laptops may do, with its reason"
    )
    parser.add_argument("--log-level", choices=sorted(telemetry.LEVELS), default="info")
    arguments = parser.parse_args()
    if bool(arguments.mesh_certificate) != bool(arguments.mesh_authorities):
        parser.error("--mesh-certificate and --mesh-authorities go together")
    return arguments


def _mesh(arguments: argparse.Namespace) -> TlsFiles | None:
    if arguments.mesh_certificate is None:
        return None
    return TlsFiles(
        certificate=arguments.mesh_certificate, key=arguments.mesh_key, authorities=arguments.mesh_authorities
    )


def _tracing(arguments: argparse.Namespace) -> TracingSettings:
    told = {
        "otlp_endpoint": arguments.otlp_endpoint,
        "sample_ratio": arguments.sample_ratio,
        "slow_s": arguments.slow_seconds,
    }
    try:
        return TracingSettings.model_validate(told)
    except ValidationError as error:
        raise CannotServe("; ".join(_mistakes(error))) from None


def _rates(arguments: argparse.Namespace) -> Plan:
    return Plan(
        address=arguments.limit_address,
        account=arguments.limit_account,
        key=arguments.limit_key,
        exempt=tuple(arguments.limit_exempt),
        store=_limit_store(arguments.limit_store),
    )


def _limit_store(argument: str) -> str:
    if "@" in argument:
        raise CannotServe(
            f"--limit-store is read by everyone on this machine: a password goes into {LIMIT_STORE_SECRET}"
        )
    try:
        return argument or config.secret(LIMIT_STORE_SECRET)
    except SettingsRefused as refused:
        raise CannotServe(str(refused)) from None


def _check_production(arguments: argparse.Namespace) -> None:
    """Raises CannotServe with everything that has no business in production."""
    dangers = {
        "--access is missing: anyone could ask anything": not arguments.access,
        "--mesh-certificate is missing: backends would be called in plaintext": (
            arguments.mesh_certificate is None and not arguments.backend_plaintext
        ),
        f"{failpoints.VARIABLE} is set": bool(os.environ.get(failpoints.VARIABLE)),
        f"{failpoints.FILE_VARIABLE} is set": bool(os.environ.get(failpoints.FILE_VARIABLE)),
    }
    if found := [danger for danger, is_there in dangers.items() if is_there]:
        raise CannotServe(f"in production: {'; '.join(found)}")


def _identity(arguments: argparse.Namespace) -> IdentitySettings | None:
    if not arguments.access:
        return None
    path = arguments.identity
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) if path else {}
        return IdentitySettings.model_validate(content or {})
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CannotServe(f"cannot read {path}: {error}") from None
    except ValidationError as error:
        raise CannotServe(f"{path}: {'; '.join(_mistakes(error))}") from None


def _mistakes(error: ValidationError) -> Iterator[str]:
    for mistake in error.errors():
        yield f"{'.'.join(map(str, mistake['loc']))}: {mistake['msg']}"


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port < 1 << 16:
        raise argparse.ArgumentTypeError("must be 0 to 65535")
    return port


if __name__ == "__main__":
    sys.exit(main())
