"""The REST edge: turns HTTP requests into gRPC calls as `google.api.http` says, for any descriptor set."""
