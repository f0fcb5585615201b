"""`python -m sweep`: the command, of the code that Python finds."""

from sweep.cli import main

if __name__ == "__main__":
    main(prog_name="sweep")
