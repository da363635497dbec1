"""Nodes that an autoscaled cluster may start, by the configuration on its head.

Such a cluster may have no worker until trials wait for one.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from study.errors import NoResources

CONFIGURATION = "~/ray_bootstrap_config.yaml"
"""Path on the head to which `ray up` copies the configuration."""


def max_nodes(path: Path) -> list[dict[str, float]]:
    """Resources of all worker nodes that a cluster's configuration allows at once.

    Raises `OSError`, `ValueError` or `yaml.YAMLError` for a file that isn't such a configuration.
    """
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    try:
        most, head = content["max_workers"], content.get("head_node_type")
        kinds = [kind for name, kind in content["available_node_types"].items() if name != head]
        nodes = [
            dict(kind["resources"])
            for kind in kinds
            for _ in range(min(most, kind.get("max_workers", most)))
        ]
        return nodes[:most]
    except KeyError as error:
        raise ValueError(f"lacks {error.args[0]}, which `ray up` needs") from error
    except (TypeError, AttributeError) as error:
        raise ValueError("is not a configuration for `ray up`") from error


def startable_nodes() -> list[dict[str, float]]:
    """Resources of one node of each type that the cluster may start.

    Empty unless this machine is the head of an autoscaled cluster. Raises `NoResources` if its
    configuration can't be read.
    """
    path = Path(CONFIGURATION).expanduser()
    if not path.is_file():
        return []
    try:
        types = yaml.safe_load(path.read_text(encoding="utf-8"))["available_node_types"].values()
        return [dict(kind.get("resources", {})) for kind in types if kind.get("max_workers")]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, yaml.YAMLError) as error:
        reason = f"{path} is not a configuration for `ray up`; `ray up` copies it again"
        raise NoResources("--address", "auto", reason) from error
