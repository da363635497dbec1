"""A user's own code, in a file outside this checkout: trainables and networks.

A network is named `FILE.py:FUNCTION@DIGEST`. The digest is that of the file's content, so a worker
or a later report never uses other code by mistake. A cell's id holds the file's name without its
folder.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import re
import sys
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

SPEC = re.compile(r"(?s)(?P<path>.+\.py):(?P<function>[A-Za-z_]\w*)@(?P<digest>[0-9a-f]{12})")


class OwnCodeError(ValueError):
    """A user's file can't be used; the message says which and why."""


@lru_cache
def module_of(name: str) -> ModuleType:
    """Import the module with this name, or the file at this path.

    Raises `OwnCodeError` for a file that can't be imported.
    """
    if not name.endswith(".py"):
        return importlib.import_module(name)
    path = Path(name)
    module_name = f"own_{path.stem}_{hashlib.sha256(os.fsencode(path)).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise OwnCodeError(f"{path} is not there")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses look up their annotations there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # a user's code may raise anything
        del sys.modules[module_name]
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise OwnCodeError(f"{path} can't be imported ({reason})") from error
    return module


def trainable_part(trainable: str, part: str) -> ModuleType:
    """Return the module `settings` or `train` of a trainable that is a package.

    `settings` imports no torch. A user's trainable is one module with both parts: return it.
    """
    module = module_of(trainable)
    return module if hasattr(module, "Config") else module_of(f"{trainable}.{part}")


def full_name(text: str) -> str:
    """Return `FILE.py:FUNCTION` as `PATH:FUNCTION@DIGEST`, with the full path of the file.

    Raises `OwnCodeError`.
    """
    file, _, function = without_digest(text).rpartition(":")
    if not file.endswith(".py"):
        raise OwnCodeError(f"{text} must be FILE.py:FUNCTION")
    path = Path(os.path.expanduser(file)).resolve()
    spec = f"{path}:{function}@{digest(path)}"
    if not SPEC.fullmatch(spec):
        raise OwnCodeError(f"{text} must be FILE.py:FUNCTION")
    function_of(spec)
    return spec


def without_digest(network: str) -> str:
    """The name of a network without its digest, as a user writes it."""
    return re.sub(r"@[0-9a-f]{12}$", "", network)


def digest(path: Path) -> str:
    """First 12 hexadecimal digits of a file's SHA-256. Raises `OwnCodeError`."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    except OSError as error:
        raise OwnCodeError(f"{path} can't be read ({error.strerror})") from error


def is_own(network: str) -> bool:
    """Return whether `network` names a user's own network."""
    return SPEC.fullmatch(network) is not None


def portable_name(network: str) -> str:
    """Name of a user's network in a cell's id: without the folder of its file."""
    return network.rpartition("/")[2]


@lru_cache
def function_of(spec: str) -> Any:
    """Return the function that makes a network. Raises `OwnCodeError`, also if the file changed."""
    match = SPEC.fullmatch(spec)
    assert match
    path = Path(match["path"])
    if digest(path) != match["digest"]:
        raise OwnCodeError(f"{path} has changed since the study began; run it again")
    function = getattr(module_of(str(path)), match["function"], None)
    if not callable(function):
        raise OwnCodeError(f"{path} has no function {match['function']}")
    return function


def build(spec: str, image: tuple[int, int, int], latent_dim: int) -> tuple[Any, Any]:
    """Encoder and decoder of a user's network, untrained.

    Raises `OwnCodeError`, whose message does not repeat `spec`.
    """
    from torch import nn

    networks = function_of(spec)(image, latent_dim)
    if not (isinstance(networks, tuple) and len(networks) == 2):
        raise OwnCodeError(f"must return an encoder and a decoder, not {type(networks).__name__}")
    for network in networks:
        if not isinstance(network, nn.Module):
            raise OwnCodeError(f"{type(network).__name__} is no torch module")
    return networks


@lru_cache  # many cells have the same network
def require_fitting(spec: str, image: tuple[int, int, int], latent_dim: int) -> None:
    """Raise `OwnCodeError` unless encoder and decoder return codes and images of these shapes.

    The message does not repeat `spec`.
    """
    import torch

    try:
        encoder, decoder = build(spec, image, latent_dim)
        codes = encoder.eval()(torch.zeros(2, *image))
        shapes: list[tuple[str, Any, tuple[int, ...]]] = [("the encoder", codes, (2, latent_dim))]
        if torch.is_tensor(codes) and codes.shape == (2, latent_dim):
            shapes.append(("the decoder", decoder.eval()(codes), (2, *image)))
    except OwnCodeError:
        raise
    except (Exception, SystemExit) as error:  # a user's code may raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise OwnCodeError(f"fails on images of {image} ({reason})") from error
    for network, output, shape in shapes:
        if not torch.is_tensor(output):
            raise OwnCodeError(f"{network} gives a {type(output).__name__}, not a tensor")
        if tuple(output.shape) != shape:
            raise OwnCodeError(
                f"{network} gives {tuple(output.shape)} for two images of {image}; it must "
                f"be {shape}"
            )
    if not shapes[-1][1].requires_grad:
        raise OwnCodeError("has no trainable parameters")
