"""Learns `families.json` from an installed transformers. Run at development time only.

    python -m tidoctor.atlas.learner --transformers4 /path/to/v4/bin/python

Needs torch and transformers 5. Every class is built on the meta device from the default
config of its model type, so no weight is ever allocated or downloaded. The names are those
of a fresh `save_pretrained`: the state dict without the keys ignored on save, with the
load-time conversions reverted (transformers 5.23, modeling_utils.py `save_pretrained` and
core_model_loading.py `revert_weight_conversion`). The tied aliases are left in, so that the
head has a name although no tied file would hold it.

The effective default of the tie flag in transformers 4 is asked of a second interpreter,
which runs this same package with `--print-v4`.
"""

from __future__ import annotations

from tidoctor.atlas.learner.configs import config_class_of, default_values, fill, shrink
from tidoctor.atlas.learner.known import (
    Unbuildable,
    classes_by_type,
    model_class,
    model_types_by_class,
    tasks_of_classes,
)
from tidoctor.atlas.learner.models import Layout, stand_in_for_timm
from tidoctor.atlas.learner.seeds import CLASS_SEEDS, EXPERTS, LAYERS, TOGETHER
from tidoctor.atlas.learner.table import too_slow

__all__ = [
    "CLASS_SEEDS", "EXPERTS", "LAYERS", "TOGETHER", "Layout", "Unbuildable", "classes_by_type",
    "config_class_of", "default_values", "fill", "model_class", "model_types_by_class", "shrink",
    "stand_in_for_timm", "tasks_of_classes", "too_slow",
]  # fmt: skip
