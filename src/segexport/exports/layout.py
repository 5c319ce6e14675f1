"""Names in the layout of datasets; `dataset` draws the whole."""

from typing import Final

MANIFEST: Final = "manifest.json"
REGISTRATION: Final = "dataset.json"
STAGING: Final = ".staging"
