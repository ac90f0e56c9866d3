"""Where the peers are, fetched by whoever asks first: a test that asks for one is skipped where it cannot be had."""

from pathlib import Path

import pytest

from interop import fetch


@pytest.fixture(scope="session")
def node_packages() -> Path:
    """NODE_PATH for Node."""
    return fetch.packages(fetch.NPM) / "node_modules"


@pytest.fixture(scope="session")
def python_packages() -> Path:
    """PYTHONPATH for Python."""
    return fetch.packages(fetch.PYPI)


@pytest.fixture(scope="session")
def sdk_packages() -> Path:
    """PYTHONPATH for the providers' own libraries."""
    return fetch.packages(fetch.SDKS)


@pytest.fixture(scope="session")
def class_path() -> str:
    """Where Java finds its libraries, and the speakers that use them."""
    jars = fetch.packages(fetch.MAVEN) / "jars"
    return f"{fetch.classes(jars)}:{jars}/*"
