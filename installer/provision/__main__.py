"""`python -m provision` is `provision`."""

from .cli import main

if __name__ == "__main__":
    main()
