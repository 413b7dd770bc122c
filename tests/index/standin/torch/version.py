"""`torch_wheel` replaces this file; the names are those of the real one."""

__version__ = "0"
debug = False
cuda: str | None = None
git_version = "0" * 40
hip: str | None = None
xpu: str | None = None
