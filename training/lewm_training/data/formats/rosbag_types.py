"""The types of the messages that rows are made of: standard ones, whose definitions no ROS 2 has changed."""

from __future__ import annotations

from typing import Any

from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore

from lewm_training.data.formats.rosbag_channels import TopicChannel

STANDARD = get_typestore(Stores.ROS2_JAZZY)
IDL_SEPARATOR = "=" * 80 + "\n"
IDL_BESIDE = ("IDL: ", "#include")
"""Lines of a recorded IDL file that the parser does not know: its name, and those of others, which follow."""


def deserialize(data: bytes, kind: str) -> Any:
    """A message of a standard type; raises ValueError if the data is none."""
    try:
        return STANDARD.deserialize_cdr(data, kind)
    except Exception as error:  # the generated code lets out whatever it stumbles over
        raise ValueError(f"the data is no {kind} ({type(error).__name__})") from None


def check_channel(channel: TopicChannel) -> None:
    """Raise ValueError unless the messages of a channel of a standard type can be read as such."""
    if channel.encoding != "cdr":
        raise ValueError(f"its messages are encoded as '{channel.encoding}', expected cdr")
    try:
        recorded = _definitions(channel)
    except Exception as error:  # the parsers let out whatever they stumble over
        raise ValueError(f"its recorded definition of {channel.kind} cannot be read ({type(error).__name__})") from None
    for kind, fields in recorded.items():
        if kind not in STANDARD.fielddefs or _layout(fields) != _layout(STANDARD.fielddefs[kind]):
            raise ValueError(f"its recorded definition of {kind} is not the one of ROS 2")


def _definitions(channel: TopicChannel) -> dict[str, Any]:
    """The types that the recording defines for a channel; before ROS 2 Iron, none."""
    if not channel.definition:
        return {}
    if channel.definition_format == "ros2msg":
        return get_types_from_msg(channel.definition, channel.kind)
    if channel.definition_format != "ros2idl":
        raise ValueError(channel.definition_format)
    types: dict[str, Any] = {}
    for file in filter(str.strip, channel.definition.split(IDL_SEPARATOR)):
        lines = (line for line in file.splitlines() if not line.startswith(IDL_BESIDE))
        types |= get_types_from_idl("\n".join(lines))
    return types


def _layout(definition: Any) -> list[tuple[str, Any]]:
    """Names and types of the fields; constants do not count."""
    _, fields = definition
    return [(name.lower(), kind) for name, kind in fields]
