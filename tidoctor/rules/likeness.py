"""What kind of model the tensors look like, where config.json does not say or says otherwise.

The search itself is `tidoctor.atlas.identify`; here it is given the tensors under their canonical
names, and kept from tensors that can tell nothing: packed weights, adapters, half a checkpoint.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidoctor.atlas import data, families
from tidoctor.atlas.expression import NotCovered
from tidoctor.atlas.identity import Identity
from tidoctor.rules.fitting import Fit
from tidoctor.tensors import shapes

if TYPE_CHECKING:
    from tidoctor.rules.view import View


def likeness(view: View) -> Identity:
    """The classes that the tensors may belong to; without any where the tensors cannot tell."""
    from tidoctor.atlas.identify import identify

    if reason := view.incomplete or view.packed:
        return Identity((), reason)
    return identify(shapes(view.tensors))


def doubt(view: View) -> str | None:
    """Why config.json does not tell what the tensors are; None where it does, or may.

    Cheap as long as the class in config.json has names like these.
    """
    checkpoint = view.checkpoint
    if checkpoint.entrance == "adapter" or not view.tensors:
        return None
    if checkpoint.config is None:
        return "there is no config.json"
    if view.declared_name is None or view.settings.get("auto_map"):
        return None
    from tidoctor.atlas.identify import has_names

    name = families.modern_name(view.declared_name)
    alike = (kind[0] for kind in view.own_kinds)
    try:
        if name not in data.current().class_names or has_names(name, alike):
            return None
    except NotCovered:
        return None
    found = view.fit_as(name)  # a loader may know other spellings
    if isinstance(found, Fit) and (found.exact or not found.alien):
        return None
    return f"{name}, which config.json names, has other tensors"
