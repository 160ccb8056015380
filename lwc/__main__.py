"""`python -m lwc` is the command `lwc`."""

from lwc.compiler.cli import main

if __name__ == "__main__":
    main()
