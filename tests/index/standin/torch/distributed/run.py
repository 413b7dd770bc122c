"""`torchrun` of the stand-in: proves that the command starts the interpreter of its own environment."""


def main() -> None:
    import sys

    print(sys.prefix)
