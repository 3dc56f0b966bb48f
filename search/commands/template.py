"""What `eca-search init` writes."""

from __future__ import annotations

TEMPLATE = """\
# yaml-language-server: $schema={schema}
# Question: which stages of a small ResNet earn an ECA module, and with which kernels?
# Check:    eca-search validate {file}
# Run:      eca-search run {file}
#
# A hole may stand wherever a value does; everything else is a constant:
#   {{choice: [a, b]}}  {{int: [1, 8], step: 1}}  {{float: [0.1, 1], log: true}}  {{subset: [1, 2]}}
# `default` is the value that a baseline takes where it leaves the hole open.

name: {name}                      # the study's folder is runs/{name}

task: {{name: classification}}

dataset:
  name: digits                    # or fashion_mnist, cifar10, cifar100, image_folder (with `root`)
  val: 0.1                        # share of the training images that validation takes

backbone:
  name: resnet                    # or mobilenetv2
  depth: 8                        # 8 14 20 32 44 56 110 for small images, 18 34 50 101 152 too
  width: {{choice: [0.25, 0.5], default: 0.5}}

attention:
  choice:
    - {{name: none}}                # the plain network, the control
    - name: eca                   # or se, which has no kernels and so no mapping
      position: final             # after the last norm before the add, as in the paper
      placement: {{name: stages, stages: {{subset: [1, 2, 3], default: [1, 2, 3]}}}}
      mapping:                    # k from log2(C) / gamma + b / gamma, to an odd number
        name: log2
        gamma: {{float: [1, 4], step: 0.5, default: 2}}
        b: {{float: [-1, 3], step: 1, default: 1}}

training:                         # fixed: a free recipe would make every trial a new one
  epochs: 6
  batch_size: 64
  optimizer: {{name: sgd, lr: 0.1, momentum: 0.9, weight_decay: 5e-4}}
  schedule: {{name: cosine}}

search:
  trials: 12                      # networks trained; duplicates are answered and cost nothing
  seed: 0
  objectives: {{val_accuracy: max, params: min, macs: min}}
  sampler: {{name: TPESampler}}     # or ParetoSampler, or any of Optuna's by its class name
  pruner: {{name: ParetoPruner}}    # stops what is behind, never a trial on the front
  baselines:                      # asked first
    - {{attention: {{name: none}}}}
    - {{attention: {{name: eca}}}}
  resources: {{cpu: 1, gpu: auto}}  # of one trial
"""
