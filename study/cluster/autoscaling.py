"""What an autoscaled cluster may still bring: on its head, by its configuration.

Such a cluster may have no worker at all until trials wait for one.
"""

from __future__ import annotations

from pathlib import Path

import yaml

CONFIGURATION = "~/ray_bootstrap_config.yaml"
"""Where `ray up` leaves it on the head."""


def may_come() -> list[dict[str, float]]:
    """The resources of one node of each type that may be started; none where this machine is not
    the head of an autoscaled cluster."""
    path = Path(CONFIGURATION).expanduser()
    if not path.is_file():
        return []
    types = yaml.safe_load(path.read_text(encoding="utf-8"))["available_node_types"]
    return [dict(kind.get("resources", {})) for kind in types.values() if kind.get("max_workers")]
