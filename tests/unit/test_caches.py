"""What a process keeps of what it has seen: so much, and no more however long it runs."""

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import segexport

MOST = 1024
"""Values that a cache may keep: it is full within minutes, and what it takes is seen by then."""
OF_OUR_OWN = {"segexport.events.schema.fast", "segexport.events.schema.reference"}
"""Without a limit, and only called with names of schemas that are bundled."""


def modules() -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages(segexport.__path__, "segexport."):
        if ".migrations." not in found.name and not found.name.endswith("__main__"):
            yield importlib.import_module(found.name)


def caches() -> dict[str, "functools._lru_cache_wrapper[Any]"]:
    return {
        f"{found.__module__}.{found.__qualname__}": found
        for module in modules()
        for found in vars(module).values()
        if isinstance(found, functools._lru_cache_wrapper)
        and found.__module__.startswith("segexport.")
    }


def test_caches_keep_few_values_or_those_of_flags() -> None:
    found = caches()
    assert set(found) > OF_OUR_OWN
    for name, cache in found.items():
        most: Any = cache.cache_parameters()["maxsize"]
        if most is None:
            parameters = inspect.signature(cache, eval_str=True).parameters.values()
            kinds = {parameter.annotation for parameter in parameters}
            assert name in OF_OUR_OWN or kinds <= {bool}, f"{name} keeps whatever it is asked for"
        else:
            assert most <= MOST, f"{name} keeps {most} values"
