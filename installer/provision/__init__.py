"""torch-provision: from whatever state a machine is in to a PyTorch that is proven to run on its GPU.

facts → decision → change → proof → record; `workflow.provision` is that picture. The rooms, a layer a paragraph; a room
imports from its own layer or from those above it here (`tests/test_architecture.py` holds them to it). A file's first
line says what belongs in it.

0 values: errors values machine environment checks params

1 decisions, from values to values: coverage drivers gpus packages catalog listings counting rules rows advice resolve
  narrow plan compare profile lock targets judge symptoms situations doctor explain tables report screens

2 effects, which ask through the host they are given or change through the transaction: host capture detect fetch
  kept anchors pages index settings needs room watch uv wants piptools fatbin binaries scan transaction hold verify
  probe proof seen carry

3 workflow, the order of steps: job facts workloads choose propose saved record holding workflow checkup aims
  locking second wheelhouse syncing adding export exporting upkeep console

4 command line: commands face cli
"""

__version__ = "0.1.0"
