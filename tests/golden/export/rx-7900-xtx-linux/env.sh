# torch 2.14.1+rocm7.14 for gfx1100: linux x86_64, Python 3.12.
# Made by: provision export env
export PYTORCH_ROCM_ARCH="gfx1100"
# The compiler must be that of rocm7.14, with which torch was made:
# export ROCM_HOME="/opt/rocm"
# An extension is compiled against the torch that is installed, not one of its own:
# pip install --no-build-isolation --no-cache-dir PACKAGE
