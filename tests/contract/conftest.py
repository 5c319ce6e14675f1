"""The contract suites are imported by the tests of each implementation."""

import pytest

pytest.register_assert_rewrite("contract.store_contract")
