# torch 2.15.0+cu130 for NVIDIA GeForce RTX 5090 (sm_120): windows x86_64, Python 3.12.
# Made by: provision export env
$env:TOKENIZERS_PARALLELISM = "false"
$env:TORCH_CUDA_ARCH_LIST = "12.0"
$env:FORCE_CUDA = "1"
# The compiler must be that of CUDA 13.0, with which torch was made (nvcc --version):
# $env:CUDA_HOME = "C:\Program Files\NVIDIA GPU Computing Toolkit\CUDA\v13.0"
# An extension is compiled against the torch that is installed, not one of its own:
# pip install --no-build-isolation --no-cache-dir PACKAGE
