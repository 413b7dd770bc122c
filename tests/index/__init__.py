"""The indexes that the tests install from: tiny wheels in the layout of download.pytorch.org, served on loopback.

    with serve(standard_tree()) as index:
        subprocess.run(["uv", "pip", "install", "torch"], env=index.environ())

Nearly every test takes the fixture `index` (the standard tree, shared, to be read) or `scene` (own servers).
"""

from .server import Fault, Request, Server, serve
from .torchwheel import HOST_PYTHON, Behaviour, host_platform, torch_wheel
from .tree import Tree, by_project, standard_tree
from .wheel import Wheel, normalize, wheel

__all__ = [
    "HOST_PYTHON",
    "Behaviour",
    "Fault",
    "Request",
    "Server",
    "Tree",
    "Wheel",
    "by_project",
    "host_platform",
    "normalize",
    "serve",
    "standard_tree",
    "torch_wheel",
    "wheel",
]
