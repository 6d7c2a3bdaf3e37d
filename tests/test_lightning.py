"""What an import of Lightning brings along."""

import subprocess
import sys

import pytest

import gradflow.lightning

LEFT_OUT = ("torchvision", "scipy", "matplotlib", "sklearn")


def answers(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.split()


def test_optional_packages_of_metrics_are_left_out_and_can_still_be_imported():
    code = f"""
import sys, gc
import gradflow.lightning
print([name for name in {LEFT_OUT} if name in sys.modules], gc.isenabled(), gc.get_freeze_count() > 100_000)
import torchvision, scipy.signal, torchmetrics
from lightning_utilities.core.imports import RequirementCache, package_available
print(bool(RequirementCache("scipy")), package_available("scipy"), bool(RequirementCache("no_such_thing")))
import torch
metric = torchmetrics.MeanMetric(); metric.update(torch.tensor([1.0, 3.0])); print(metric.compute().item())
"""
    assert answers(code) == ["[]", "True", "True", "True", "True", "False", "2.0"]


def test_the_whole_of_torchmetrics_stays_where_it_was_imported_before():
    seen = "hasattr(torchmetrics.functional.image, 'learned_perceptual_image_patch_similarity')"
    code = f"import torchmetrics, gradflow.lightning; print({seen})"
    assert answers(code) == ["True"]


def test_a_collector_that_was_off_stays_off():
    assert answers("import gc; gc.disable(); import gradflow.lightning; print(gc.isenabled())") == ["False"]


@pytest.mark.parametrize("name", gradflow.lightning.__all__)
def test_what_it_offers_is_there(name):
    assert hasattr(gradflow.lightning, name)
