"""API keys as the contract has them. Pure."""

from datetime import UTC, datetime

from bodega.user.v1 import api_key_pb2 as pb

from services.chassis.wire import timestamp
from services.user.api_keys import ApiKey


def key_to_proto(key: ApiKey) -> pb.ApiKey:
    return pb.ApiKey(
        api_key_id=key.id,
        user_id=key.user_id,
        name=key.name,
        scopes=key.scopes,
        ending=key.ending,
        create_time=timestamp(key.created_at),
        expire_time=timestamp(key.expires_at) if key.expires_at else None,
        revoke_time=timestamp(key.revoked_at) if key.revoked_at else None,
        last_use_time=timestamp(key.last_used_at) if key.last_used_at else None,
    )


def expiry(request: pb.CreateApiKeyRequest) -> datetime | None:
    """None for a key without end."""
    return request.expire_time.ToDatetime(UTC) if request.HasField("expire_time") else None
