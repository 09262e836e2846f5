"""`python -m omnictl`."""

from omnictl.cli import main

if __name__ == "__main__":
    main()
