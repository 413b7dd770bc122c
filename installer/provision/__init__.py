"""torch-provision: from whatever state a machine is in to a PyTorch that is proven to run on its GPU."""

__version__ = "0.1.0"
