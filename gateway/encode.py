"""Message → JSON: one closure per message type, compiled once from its descriptor.

What is unset is left out, as the proto3 JSON mapping says and Envoy does; a field that clients must always
see is declared `optional` and set. Names are the JSON names.
"""

from collections.abc import Callable
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError

from gateway import scalars, well_known
from gateway.decode import has_json_form_of_its_own, map_entry
from gateway.well_known import NoJsonForm

Dump = Callable[[Any], Any]
"""A field's or message's value as orjson takes it. Raises NoJsonForm."""


class Encoder:
    """Compiles and keeps the closures for the types of some descriptor pools (searched in order for Any)."""

    def __init__(self, *pools: DescriptorPool) -> None:
        self._pools = pools
        self._by_type: dict[Descriptor, Dump] = {}

    def message(self, descriptor: Descriptor) -> Dump:
        """The JSON value of a message of this type."""
        known = self._by_type.get(descriptor)
        if known is not None:
            return known
        if descriptor.full_name == well_known.ANY:
            dump: Dump = self.any
        else:
            dump = well_known.writer(descriptor) or self._ordinary(descriptor)
        self._by_type[descriptor] = dump
        return dump

    def field(self, field: FieldDescriptor) -> Dump | None:
        """The JSON value of what `getattr` gives for a field; None if it is taken as it is."""
        entry = map_entry(field)
        if entry is not None:
            return self._map(entry)
        if field.message_type is not None:
            convert: Dump | None = self.message(field.message_type)
        else:
            convert = scalars.to_json(field)
        if not field.is_repeated:
            return convert
        if convert is None:
            return list
        each = convert
        return lambda values: [each(value) for value in values]

    def any(self, message: Any) -> dict[str, Any]:
        """The JSON form of an Any whose type is known here."""
        if not message.type_url and not message.value:
            return {}
        descriptor = self._type_named(message.type_url.rpartition("/")[2])
        try:
            packed = message_factory.GetMessageClass(descriptor).FromString(message.value)
        except DecodeError:
            raise NoJsonForm("an Any does not hold what it says") from None
        value = self.message(descriptor)(packed)
        if has_json_form_of_its_own(descriptor):
            return {"@type": message.type_url, "value": value}
        return {"@type": message.type_url, **value}

    def _type_named(self, full_name: str) -> Descriptor:
        for pool in self._pools:
            try:
                return pool.FindMessageTypeByName(full_name)
            except KeyError:
                continue
        raise NoJsonForm("an Any holds a type that is not known here")

    def _ordinary(self, descriptor: Descriptor) -> Dump:
        # Descriptors are unique objects while something refers to them, as this table does.
        table: dict[FieldDescriptor, tuple[str, Dump | None]] = {}

        def dump(message: Any) -> dict[str, Any]:
            out = {}
            for field, value in message.ListFields():
                key, convert = table[field]
                out[key] = value if convert is None else convert(value)
            return out

        self._by_type[descriptor] = dump  # before its fields: types may contain themselves
        for field in descriptor.fields:
            table[field] = (field.json_name, self.field(field))
        return dump

    def _map(self, entry: Descriptor) -> Dump:
        to_key = scalars.to_key(entry.fields_by_name["key"]) or _as_it_is
        to_value = self.field(entry.fields_by_name["value"]) or _as_it_is
        return lambda entries: {to_key(key): to_value(value) for key, value in entries.items()}


def _as_it_is(value: Any) -> Any:
    return value
