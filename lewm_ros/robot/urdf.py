"""Reading robot descriptions (URDF), as the topic `robot_description` carries them."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET

from lewm_ros.config import ConfigError

WHERE = "robot_description"


def joints_of(urdf: str) -> dict[str, ET.Element]:
    """The joints of a robot description by name.

    Raises:
        ConfigError: it is not XML.
    """
    try:
        robot = ET.fromstring(urdf)
    except ET.ParseError as error:
        raise ConfigError(f"{WHERE}: not XML ({error})") from None
    # <ros2_control> and <transmission> have <joint> too.
    return {joint.get("name", ""): joint for joint in robot.findall("joint")}


def numbers(element: ET.Element, key: str, count: int, joint_name: str) -> list[float]:
    """The finite numbers in an attribute of an element of a joint.

    Raises:
        ConfigError: it is missing, or holds something else.
    """
    text = element.get(key)
    try:
        values = [float(word) for word in (text or "").split()]
    except ValueError:
        values = []
    if len(values) != count or not all(map(math.isfinite, values)):
        wanted = "a finite number" if count == 1 else f"{count} finite numbers"
        raise ConfigError(f"{WHERE}: joint '{joint_name}': <{element.tag}> needs {wanted} as {key}, got {text!r}")
    return values
