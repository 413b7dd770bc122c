# torch 2.15.0+cpu for no GPU: linux x86_64, Python 3.12.
# Made by: provision export env
# An extension is compiled against the torch that is installed, not one of its own:
# pip install --no-build-isolation --no-cache-dir PACKAGE
