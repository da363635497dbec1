"""Results in a bucket, through `obstore`: S3 and compatible storage, Google Cloud, Azure."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import parse_qsl

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError, PreconditionError
from obstore.store import from_url

from study.errors import StoreError
from study.store.places import Place, T, U

Tag: TypeAlias = Any
"""Tag of an object, compared in conditional requests. Different content has a different tag."""

RETRY_TIME = timedelta(seconds=120)
"""Time for which requests are retried, so that a short failure of the network ends no study."""
URI = re.compile(r"(s3a?|gs|az|azure|abfss?)://[\w.@-]+(/(?!\.{1,2}(/|$))[^/#]+)*/?")


class Bucket(Place):
    """A prefix of a bucket."""

    def __init__(self, uri: str) -> None:
        self.address = uri
        self.display_uri = uri.partition("?")[0].rstrip("/")
        self._store = open_store(uri, RETRY_TIME)

    def where(self, name: str = "") -> str:
        return f"{self.display_uri}/{name}".rstrip("/")

    def reach(self) -> None:
        with self.single_attempt():
            self.list("blocks")

    @contextmanager
    def single_attempt(self) -> Iterator[None]:
        before, self._store = self._store, open_store(self.address, timedelta(0))
        try:
            yield
        finally:
            self._store = before

    def parallel_map(self, function: Callable[[T], U], items: Iterable[T]) -> Iterator[U]:
        pool = ThreadPoolExecutor(32)
        try:
            yield from pool.map(function, items)
        finally:  # also after an interruption while calls are still being queued
            pool.shutdown(cancel_futures=True)

    @contextmanager
    def working_folder(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="study-") as temporary:
            folder = Path(temporary)
            yield folder

            def upload(path: Path) -> None:
                self.write(f"{name}/{path.relative_to(folder).as_posix()}", path.read_bytes())

            list(self.parallel_map(upload, filter(Path.is_file, folder.rglob("*"))))

    @contextmanager
    def _request(self, name: str, what: str) -> Iterator[None]:
        """Turn obstore's errors into `FileNotFoundError` and one-line `StoreError`s."""
        try:
            yield
        except (AlreadyExistsError, PreconditionError):
            raise
        except (BaseError, OSError) as error:
            if "NoSuchBucket" in str(error):
                bucket = self.display_uri.split("/")[2]
                problem = f"{self.display_uri}: there is no bucket {bucket}; create it first"
                raise StoreError(problem) from error
            absent = isinstance(error, FileNotFoundError | NotFoundError)
            if absent and what in ("read", "deleted"):
                path = self.where(name)
                raise FileNotFoundError(2, "No such file or directory", path) from None
            raise StoreError(f"{self.where(name)} can't be {what} ({in_short(error)})") from error

    def read(self, name: str) -> bytes:
        return self.read_tagged(name)[0]

    def write(self, name: str, content: bytes, only_if_absent: bool = False) -> bool:
        return self.write_tagged(name, content, None if only_if_absent else "overwrite") is not None

    def list(self, folder: str) -> dict[str, int]:
        with self._request(folder, "listed"):
            found = [entry for page in obstore.list(self._store, folder) for entry in page]
        return {entry["path"].removeprefix(f"{folder}/"): entry["size"] for entry in found}

    def delete(self, name: str) -> None:
        with suppress(FileNotFoundError), self._request(name, "deleted"):
            obstore.delete(self._store, name)

    def modified_time(self, name: str) -> float:
        with self._request(name, "read"):
            return obstore.head(self._store, name)["last_modified"].timestamp()

    def read_tagged(self, name: str) -> tuple[bytes, Tag]:
        """Content and tag of a file."""
        with self._request(name, "read"):
            found = obstore.get(self._store, name)
            return bytes(found.bytes()), tag_of(found.meta)

    def write_tagged(self, name: str, content: bytes, tag: Tag | None) -> Tag | None:
        """Write a file and return its new tag, or None if another writer was faster.

        The file must still have `tag`, or not exist yet if that is None. With "overwrite" it is
        written in any case.
        """
        try:
            with self._request(name, "written"):
                return tag_of(obstore.put(self._store, name, content, mode=tag or "create"))
        except (AlreadyExistsError, PreconditionError):
            with suppress(FileNotFoundError):
                existing, found = self.read_tagged(name)
                if existing == content:
                    # A request whose answer was lost is sent again, and finds its own content.
                    return found
                if tag and found == tag and '"' in tag["e_tag"]:
                    # Ceph's gateway (seen with 16.2) compares the tag without its quotes.
                    bare = {**tag, "e_tag": tag["e_tag"].strip('"')}
                    return self.write_tagged(name, content, bare)
            return None


def tag_of(meta: Any) -> Tag:
    """Tag in an answer: S3 and Azure compare `e_tag`, Google Cloud `version`."""
    return {name: meta[name] for name in ("e_tag", "version") if meta[name] is not None}


def open_store(uri: str, patience: timedelta) -> Any:
    """obstore's store for a URI; it retries for `patience`. Raises `StoreError`."""
    shown, _, query = uri.partition("?")
    if re.match(r"s3a?://[^/]*@|\w+://[^/@]*:[^/]*@", uri):
        raise StoreError(
            "a URI must not contain credentials, as it is printed and stored; set "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the variables of your storage"
        )
    if not URI.fullmatch(shown):
        form = "s3://bucket/path, gs://bucket/path or az://container/path"
        raise StoreError(f"{shown}: must be {form}, without '#', '//', '.' or '..' in the path")
    options = dict(parse_qsl(query))
    scheme = options.get("scheme", "https")  # the endpoint's
    unknown = options.keys() - {"region", "endpoint_override", "scheme"}
    if unknown or scheme not in ("http", "https"):
        wrong = ", ".join(sorted(unknown)) or f"scheme={scheme}"
        raise StoreError(
            f"{shown}: {wrong} is not one of region, endpoint_override, scheme=http(s)"
        )
    config: Any = {"region": options["region"]} if "region" in options else {}
    if "endpoint_override" in options:
        config["endpoint"] = f"{scheme}://{options['endpoint_override']}"
    credentials = aws_credentials(config) if shown.startswith("s3") else {}
    client: Any = {"connect_timeout": timedelta(seconds=5), "timeout": timedelta(seconds=30)}
    client["allow_http"] = scheme == "http"
    retries: Any = {"max_retries": 50 if patience else 0, "retry_timeout": patience}
    try:
        return from_url(
            shown, config=config, client_options=client, retry_config=retries, **credentials
        )
    except (BaseError, ValueError) as error:
        raise StoreError(f"{shown} can't be used ({in_short(error)})") from error


def aws_credentials(config: dict[str, Any]) -> Mapping[str, Any]:
    """obstore's argument for the credentials in ~/.aws, which it doesn't read itself.

    Empty if the environment has credentials, or ~/.aws has none. Puts the region of ~/.aws into
    `config`. Raises `StoreError` if boto3 is missing.
    """
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
    known = session.get_credentials() is not None
    return {"credential_provider": Boto3CredentialProvider(session)} if known else {}


def in_short(error: Exception) -> str:
    """The error in one line, without the storage's debugging details."""
    text = " ".join(str(error).partition("Debug source")[0].split())
    if code := re.search(r"<Code>(\w+)</Code>", text):
        message = re.search(r"<Message>(.*?)</Message>", text)
        return f"{code[1]}: {message[1]}" if message else code[1]
    if status := re.search(r"status code: (\d+ [A-Za-z ]+)", text):
        return status[1].strip()
    return text.rpartition(" - ")[2][:300]
