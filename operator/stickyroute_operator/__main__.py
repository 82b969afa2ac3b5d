"""`python -m stickyroute_operator`."""

from stickyroute_operator.main import main

if __name__ == "__main__":
    main()
