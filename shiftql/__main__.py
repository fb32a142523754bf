"""`python -m shiftql` is `shiftql`."""

from shiftql.cli import main

main(prog_name="shiftql")
