"""A reader of a page in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

webdriver = pytest.importorskip("selenium.webdriver")


class Reader:
    """What a reader sees and does in a part of the page, given by a selector."""

    def __init__(self, driver: Any, part: str = "") -> None:
        self.driver, self.part = driver, part

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def find(self, selector: str) -> Any:
        return self.driver.find_element("css selector", f"{self.part} {selector}")

    def press(self, selector: str, *names: str) -> None:
        for name in names:
            self.find(selector).send_keys(getattr(webdriver.Keys, name))

    @contextmanager
    def phone(self) -> Iterator[None]:
        """Read on a screen of 360 × 800 pixels."""
        size = {"width": 360, "height": 800, "deviceScaleFactor": 2, "mobile": True}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        try:
            yield
        finally:
            self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})

    @contextmanager
    def colour_scheme(self, scheme: str) -> Iterator[None]:
        """Prefer light or dark pages."""
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        try:
            yield
        finally:
            self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
