"""`python -m stickyroute_cli`: the same as the `stickyroute` command."""

from stickyroute_cli.main import main

if __name__ == "__main__":
    main()
