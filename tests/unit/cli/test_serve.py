"""How `segexport serve` ends."""

import asyncio

import pytest

from segexport.cli import main
from segexport.errors import PartFailed, PositionMismatch, SegexportError


@pytest.mark.parametrize(
    ("error", "status"),
    [(PartFailed("relay", KeyError("topic")), 3), (PositionMismatch("another store"), 2)],
)
def test_its_status_says_whether_starting_it_again_will_do(
    error: SegexportError,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def fail(*_: object) -> None:
        await asyncio.sleep(0)
        raise error

    monkeypatch.setattr("segexport.service.serve", fail)
    monkeypatch.setattr("sys.argv", ["segexport", "serve"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == status
    assert f"[{error.code}]" in capsys.readouterr().err
