"""Files of other projects, read and written: model weights, datasets, recordings.

A module here has `import_data(source, out, config, skip_bad)`, which returns the figures for `--json`, and where the
format can be written `export_data(source, out)`. `FORMATS` names the modules and the extra of setup.py that each needs.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from lewm_ros.config import UserError

FORMATS = {
    "hdf5": ("hdf5", None),
    "lerobot": ("lerobot", "lerobot"),
    "rosbag": ("rosbag", "rosbag"),
    "robomimic": ("robomimic", None),
    "lewm": ("released", None),
}
"""Name on the command line: (module, extra)."""


def load_format(name: str) -> ModuleType:
    """The module of a format.

    Raises:
        UserError: a library that the format needs is not installed.
    """
    module, extra = FORMATS[name]
    try:
        return importlib.import_module(f"lewm_training.data.formats.{module}")
    except ModuleNotFoundError as error:
        if extra is None or str(error.name).startswith("lewm_"):
            raise
        raise UserError(f"format '{name}' needs the library '{error.name}': pip install 'lewm_ros[{extra}]'") from None
