"""`python -m octopus` is the command `octopus`."""

from octopus.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
