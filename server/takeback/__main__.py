"""`python -m takeback`: the command line, where the script is not on the PATH."""

from takeback.server.cli import main

main()
