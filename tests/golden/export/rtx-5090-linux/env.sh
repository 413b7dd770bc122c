# torch 2.11.0+cu128 for NVIDIA GeForce RTX 5090 (sm_120): linux x86_64, Python 3.12.
# Made by: provision export env
export TORCH_CUDA_ARCH_LIST="12.0"
export FORCE_CUDA="1"
# The compiler must be that of CUDA 12.8, with which torch was made (nvcc --version):
# export CUDA_HOME="/usr/local/cuda-12.8"
# An extension is compiled against the torch that is installed, not one of its own:
# pip install --no-build-isolation --no-cache-dir PACKAGE
