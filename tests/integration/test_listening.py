"""What keeps the service from listening is explained, and nothing is left running."""

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from segexport.errors import SettingsError
from segexport.service import running
from segexport.settings import Settings
from support.interfaces import http_settings


async def served(tmp_path: Path, **http: Any) -> None:
    """Start and stop everything that `segexport serve` does."""
    async with asyncio.timeout(60), running(Settings(data=tmp_path, http=http), http=True):
        pass


async def test_an_address_that_is_taken_is_explained(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            SettingsError, match=f"cannot listen on 127.0.0.1 port {port}.*http.port"
        ):
            await served(tmp_path, port=port)
    assert not (tmp_path / "http-address").exists()


async def test_a_certificate_that_cannot_be_used_is_explained(tmp_path: Path) -> None:
    nothing = tmp_path / "nothing.pem"
    nothing.write_text("not a certificate")
    with pytest.raises(SettingsError, match="check http"):
        await served(tmp_path, **http_settings(certificate=nothing, private_key=nothing))


async def test_others_are_not_listened_to_without_keys(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="segexport keys create"):
        await served(tmp_path, **http_settings(host="0.0.0.0"))
