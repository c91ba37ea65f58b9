"""`python -m mrlift`."""

from mrlift.cli import main

main()
