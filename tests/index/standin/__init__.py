"""The package that stands in for torch: small, pure Python, honest arithmetic. `torch_wheel` packs it."""
