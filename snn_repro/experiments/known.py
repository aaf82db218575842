# ruff: noqa: F401
"""Every setting that a record may name: importing this makes them known to `Spec.from_dict`.

`Experiment.from_dict` imports it; who trains one net on one data set does not load the others.
"""
from snn_repro.data import (digits, event_images, event_sets, few_cars, image_folders, images,
                            own_sets, policies, simulated_events)
from snn_repro.losses import agreement, laf, objectives, pairs, tks
from snn_repro.models import resnet19, resnet20, sew, small, vgg
