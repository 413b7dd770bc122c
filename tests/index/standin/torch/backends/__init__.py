"""`torch.backends`, as far as a proof asks it."""

from types import SimpleNamespace

from .. import version

cuda = SimpleNamespace(matmul=SimpleNamespace(allow_tf32=False))
cudnn = SimpleNamespace(version=lambda: 92600 if version.cuda else None)
mps = SimpleNamespace(is_available=lambda: False)
