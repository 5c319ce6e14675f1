"""`python -m segexport`."""

from segexport.cli import main

main()
