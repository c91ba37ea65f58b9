"""A browser for the tests of a file, and pages in it that are watched."""

import pytest


@pytest.fixture(scope="module")
def browser():
    from browsing import chromium

    with chromium() as running:
        yield running


@pytest.fixture
def look(browser):
    from browsing import looking

    with looking(browser) as opened:
        yield opened
