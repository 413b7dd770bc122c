"""`torch.backends`, as far as a proof asks it."""

from types import SimpleNamespace

from .. import version

mps = SimpleNamespace(is_available=lambda: False, is_built=lambda: False)
cudnn = SimpleNamespace(version=lambda: 92600 if version.cuda else None, is_available=lambda: version.cuda is not None)
