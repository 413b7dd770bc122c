"""The command line: parse, call one function, render, return its code."""


def main() -> None:
    raise SystemExit(0)
