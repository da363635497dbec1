"""Results in a bucket, through `obstore`: S3 and what speaks its protocol, Google Cloud, Azure."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError, PreconditionError
from obstore.store import from_url

from study.errors import StoreError
from study.store.places import Place

T = TypeVar("T")
U = TypeVar("U")

PATIENCE = timedelta(seconds=120)
"""For so long a request is tried again: a network that is gone for half a minute costs nothing."""
AT_ONCE = 32
"""Requests at the same time."""
OPTIONS = {"region": "region", "endpoint_override": "endpoint"}
"""What the query of a URI may set, and what obstore calls it; and `scheme`, of the endpoint."""


class Bucket(Place):
    """A prefix of a bucket."""

    shared = True

    def __init__(self, uri: str) -> None:
        self.address = uri
        self.shown = uri.partition("?")[0].rstrip("/")
        self._patient = open_store(uri, PATIENCE)
        self._store = self._patient

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.address,)

    def where(self, name: str = "") -> str:
        return f"{self.shown}/{name}" if name else self.shown

    @contextmanager
    def _request(self, name: str, what: str) -> Iterator[None]:
        """Turn obstore's errors into `FileNotFoundError` and `StoreError` of one line."""
        try:
            yield
        except NotFoundError:
            raise FileNotFoundError(2, "No such file or directory", self.where(name)) from None
        except (AlreadyExistsError, PreconditionError):
            raise
        except (BaseError, OSError) as error:
            raise StoreError(f"{self.where(name)} can't be {what} ({in_short(error)})") from error

    @contextmanager
    def once(self) -> Iterator[None]:
        self._store = open_store(self.address, timedelta(0))
        try:
            yield
        finally:
            self._store = self._patient

    def each(self, function: Callable[[T], U], items: Iterable[T]) -> Iterator[U]:
        pool = ThreadPoolExecutor(AT_ONCE)
        try:
            yield from pool.map(function, items)
        finally:
            pool.shutdown(cancel_futures=True)

    def reach(self) -> None:
        with self.once():
            try:
                self.list("")
            except StoreError as error:
                if "NoSuchBucket" in str(error):
                    bucket = urlsplit(self.address).netloc
                    message = f"{self.shown}: there is no bucket {bucket}; make it first"
                    raise StoreError(message) from error
                raise

    # --- the five verbs ----------------------------------------------------------------------

    def read(self, name: str) -> bytes:
        with self._request(name, "read"):
            return bytes(obstore.get(self._store, name).bytes())

    def write(self, name: str, content: bytes, only_if_absent: bool = False) -> bool:
        if only_if_absent:
            return self.write_tagged(name, content, None) is not None
        with self._request(name, "written"):
            obstore.put(self._store, name, content)
        return True

    def list(self, folder: str) -> dict[str, int]:
        with self._request(folder, "listed"):
            found = obstore.list_with_delimiter(self._store, folder or None)["objects"]
        return {entry["path"].rpartition("/")[2]: entry["size"] for entry in found}

    def delete(self, name: str) -> None:
        try:
            with self._request(name, "deleted"):
                obstore.delete(self._store, name)
        except FileNotFoundError:
            pass

    def age(self, name: str) -> float:
        probe = f".clock.{uuid.uuid4().hex}"
        with self._request(name, "read"):
            written = obstore.head(self._store, name)["last_modified"]
            obstore.put(self._store, probe, b"")
            now = obstore.head(self._store, probe)["last_modified"]
            obstore.delete(self._store, probe)
        return (now - written).total_seconds()

    # --- conditional requests, of which the lease is made ------------------------------------

    def read_tagged(self, name: str) -> tuple[bytes, str]:
        """The content of a file, and the tag that this content has."""
        with self._request(name, "read"):
            found = obstore.get(self._store, name)
            return bytes(found.bytes()), str(found.meta["e_tag"])

    def write_tagged(self, name: str, content: bytes, tag: str | None) -> str | None:
        """Write a file that still has this tag, or with None doesn't exist yet; its new tag, or
        None where another was faster."""
        mode: Any = "create" if tag is None else {"e_tag": tag}
        try:
            with self._request(name, "written"):
                return str(obstore.put(self._store, name, content, mode=mode)["e_tag"])
        except (AlreadyExistsError, PreconditionError):
            return None
        except FileNotFoundError:  # what was to be replaced is gone
            return None


def open_store(uri: str, patience: timedelta) -> Any:
    """obstore's store for a URI. Raises `StoreError`."""
    shown = uri.partition("?")[0]
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise StoreError(f"{shown} can't be used ({error})") from error
    if parts.password or (parts.scheme == "s3" and parts.username):
        raise StoreError(
            f"{parts.scheme}://…@{parts.hostname}: credentials don't belong into an address, which "
            "is printed and stored; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or what your "
            "storage has instead"
        )
    if not parts.netloc:
        raise StoreError(f"{shown} names no bucket; s3://bucket/path does")
    if any(part in ("", ".", "..") for part in parts.path.strip("/").split("/")) and parts.path.strip(
        "/"
    ):
        raise StoreError(f"{shown}: a path with '//', '.' or '..' in it names no object")
    query = dict(parse_qsl(parts.query))
    unknown = query.keys() - OPTIONS.keys() - {"scheme"}
    if unknown:
        known = ", ".join([*OPTIONS, "scheme"])
        raise StoreError(f"{shown}: {', '.join(sorted(unknown))} is not one of {known}")
    config: dict[str, Any] = {OPTIONS[k]: value for k, value in query.items() if k in OPTIONS}
    if "endpoint" in config:
        config["endpoint"] = f"{query.get('scheme', 'https')}://{config['endpoint']}"
    credentials = aws_credentials(config) if parts.scheme in ("s3", "s3a") else {}
    client: dict[str, Any] = {
        "allow_http": query.get("scheme") == "http",
        "connect_timeout": timedelta(seconds=5),
        "timeout": timedelta(seconds=30),
    }
    retries: Any = {"max_retries": 50 if patience else 0, "retry_timeout": patience}
    try:
        return from_url(
            shown, config=config, client_options=client, retry_config=retries, **credentials
        )
    except (BaseError, ValueError) as error:
        raise StoreError(f"{shown} can't be used ({in_short(error)})") from error


def aws_credentials(config: dict[str, Any]) -> Mapping[str, Any]:
    """obstore's argument for the credentials in ~/.aws, which it doesn't read itself; none where
    the environment has some. Puts the region of ~/.aws into `config`."""
    if "AWS_ACCESS_KEY_ID" in os.environ or not Path("~/.aws").expanduser().is_dir():
        return {}
    try:
        import boto3
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError:
        raise StoreError(
            "the credentials in ~/.aws are read by boto3, which isn't installed; install it, or "
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        ) from None
    session = boto3.Session()
    if session.region_name:
        config.setdefault("region", session.region_name)
    if session.get_credentials() is None:
        return {}
    return {"credential_provider": Boto3CredentialProvider(session)}


def in_short(error: Exception) -> str:
    """What went wrong, in one line without what only the storage's operator could use."""
    text = " ".join(str(error).partition("Debug source")[0].split())
    code = re.search(r"<Code>(\w+)</Code>", text)
    message = re.search(r"<Message>(.*?)</Message>", text)
    if code:
        return f"{code[1]}: {message[1]}" if message else code[1]
    status = re.search(r"status code: (\d+ [A-Za-z ]+)", text)
    if status:
        return status[1].strip()
    return text.rpartition(" - ")[2][:300]
