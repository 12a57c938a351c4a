"""Names of attributes, from OpenTelemetry's semantic conventions as far as those have one."""

from typing import Final

ERROR_TYPE: Final = "error.type"

RPC_SYSTEM: Final = "rpc.system.name"
RPC_METHOD: Final = "rpc.method"
RPC_STATUS: Final = "rpc.response.status_code"

HTTP_METHOD: Final = "http.request.method"
HTTP_ROUTE: Final = "http.route"
HTTP_STATUS: Final = "http.response.status_code"

DB_SYSTEM: Final = "db.system.name"
DB_OPERATION: Final = "db.operation.name"
DB_COLLECTION: Final = "db.collection.name"
DB_BATCH_SIZE: Final = "db.operation.batch.size"
DB_QUERY: Final = "db.query.text"

MESSAGING_SYSTEM: Final = "messaging.system"
MESSAGING_OPERATION: Final = "messaging.operation.name"
MESSAGING_OPERATION_TYPE: Final = "messaging.operation.type"
MESSAGING_DESTINATION: Final = "messaging.destination.name"
MESSAGING_MESSAGE_ID: Final = "messaging.message.id"
MESSAGING_CONSUMER: Final = "messaging.consumer.group.name"

# Ours, where the conventions have none.
REASON: Final = "bodega.reason"
"""Why a call was refused, as clients are told."""

ATTEMPT: Final = "bodega.attempt"
"""The first is 1."""

OUTCOME: Final = "bodega.outcome"
ORDER: Final = "bodega.order.id"
NOTIFICATION: Final = "bodega.notification.id"
