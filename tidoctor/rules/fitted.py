"""How the tensors of a checkpoint follow its class: the base prefix, and what it lacks or has over.

Where that cannot be known, the reason stands in place of the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property

from tidoctor.atlas import families
from tidoctor.atlas.expectation import Expectation, expectation
from tidoctor.atlas.expression import NotCovered
from tidoctor.atlas.families import ClassFacts
from tidoctor.patterns import roots
from tidoctor.rules import packing
from tidoctor.rules.alternatives import Others, others
from tidoctor.rules.fitting import Fit, fit, quantised, verbatim
from tidoctor.rules.packing import FLOATS, Module
from tidoctor.rules.rule import CannotRun, NotApplicable
from tidoctor.rules.subject import Subject
from tidoctor.tensors import are_shaped, shapes
from tidoctor.wrappers import is_adapter


class Fitted(Subject):
    """A subject held against the class that it must serve, or another one."""

    @cached_property
    def layout(self) -> tuple[str, list[str], list[str]]:
        """(prefix, body names without it, body names with it) of a family with a base prefix.

        Names are canonical. Raises NotApplicable when the family has no such prefix or is unknown.
        """
        facts = self.generator
        if facts is None or not facts.prefix or not facts.uniform_prefix or not facts.embedding:
            raise NotApplicable("the family has no base prefix that is known")
        prefix = facts.prefix
        prefixed = self.own_kinds.where(lambda n: n.startswith(prefix))
        # The body is told from the head by the first component: `lm_head`, `cls`, `score`.
        outside = {n.partition(".")[0] for n in facts.own}
        others = self.own_kinds.where(
            lambda n: not n.startswith(prefix) and n.partition(".")[0] not in outside
        )
        bare_embedding = facts.embedding.removeprefix(prefix)
        if bare_embedding not in self.tensors and not _same_blocks(others, prefixed, prefix):
            return prefix, [], prefixed
        return prefix, others, prefixed

    # --- what the class promises ---

    @cached_property
    def fit(self) -> Fit | str:
        """How the tensors fit the class to be served, or why that cannot be known.

        Raises NotApplicable when there is no config of transformers to promise anything.
        """
        self.need_config()
        if self.target is not None:
            return self.fit_as(self.target.name)
        if self.declared_name is None:
            return "config.json names no class"
        return self.fit_as(families.modern_name(self.declared_name))

    def need_fit(self) -> Fit:
        """The same; raises CannotRun where it cannot be known."""
        if isinstance(self.fit, str):
            raise CannotRun(self.fit)
        return self.fit

    @property
    def verbatim(self) -> bool:
        """Whether names and shapes are known to be those of a fresh save. Raises as `fit`."""
        return not isinstance(self.fit, str) and self.fit.verbatim

    def fit_as(self, class_name: str, *, raw: bool = False) -> Fit | str:
        """How the tensors fit a class under the config, or why that cannot be known.

        `raw` takes their names as they stand in the files, wrappers and all.
        """
        if self._unfit:
            return self._unfit
        if raw and self.quantisations:
            return "a quantisation is declared, and what a loader makes of it is not known"
        tensors = self.checkpoint.tensors if raw else self.tensors
        own = self.target is not None and class_name == self.target.name
        if own and "fit" in self.__dict__ and tensors.keys() == self.tensors.keys():
            return self.fit
        try:
            settings = self._settings_for(class_name)
            expected = expectation(settings, class_name)
            if expected.saved and are_shaped(tensors, expected.saved):
                return verbatim(expected, expected.saved)
            return fit(expected, settings, shapes(tensors))
        except NotCovered as e:
            return e.reason

    def promise(self, class_name: str) -> Expectation | str:
        """What a class has under the config, whatever files are there, or why not known."""
        if self._untold:
            return self._untold
        try:
            return expectation(self._settings_for(class_name), class_name)
        except NotCovered as e:
            return e.reason

    def _settings_for(self, class_name: str) -> Mapping[str, object]:
        """The config from which a class is built: the text part for classes of text alone."""
        facts = families.class_facts(class_name)
        types = facts.model_types if facts else ()
        if self.text_level and self.model_type not in types:
            inner = self.text_settings.get("model_type")
            if isinstance(inner, str) and inner in types:
                return self.text_settings
        return self.settings

    def is_idle(self, name: str) -> bool:
        """Whether nothing that the class computes by default depends on a tensor: poolers."""
        heads = self.target is not None and self.target.task not in ("base", "encoder")
        return not heads and ".pooler." in f".{name}"

    @cached_property
    def elsewhere(self) -> Others:
        """The classes that the tensors fit exactly instead.

        None are looked for where another class is wanted than the declared one, or where the
        tensors are not known to be other ones.
        """
        found = self.fit
        if isinstance(found, str) or self.saved_as is not None or not found.unexpected:
            return Others()
        return others(self.settings, found)

    @cached_property
    def kin(self) -> tuple[str, ...]:
        """Those of the same model type, where the class to be served lacks tensors."""
        found = self.fit
        if isinstance(found, str) or not (found.missing or found.mismatched):
            return ()
        own = found.expected.model_type
        return tuple(name for name, kind in self.elsewhere.classes if kind == own)

    @cached_property
    def saved_as(self) -> ClassFacts | None:
        """The class in config.json, where another one is wanted; None otherwise."""
        if self.wanted is None or self.declared is None:
            return None
        return None if self.wanted.name == self.declared.name else self.declared

    def _strange(self, found: Fit) -> Fit:
        """A fit whose left over tensors belong to no class that is wanted or declared."""
        if self.saved_as is None:
            return found
        other = self.fit_as(self.saved_as.name)
        known = frozenset() if isinstance(other, str) else frozenset(other.unexpected)
        return replace(found, unexpected=tuple(n for n in found.unexpected if n in known))

    # --- why it may not be known ---

    @cached_property
    def _unfit(self) -> str:
        """Why tensors cannot be held against a class, "" where they can."""
        return self.incomplete or self._untold

    @cached_property
    def _untold(self) -> str:
        """Why the class does not tell the names and shapes of the files, "" where it does."""
        if self.settings.get("auto_map"):
            return "the model brings its own code"
        if self.quantisations and not all(map(self.plain_though_declared, self.quantisations)):
            return "the weights are quantised"
        return self.packed

    @cached_property
    def quantisations(self) -> list[object]:
        """What config.json says about a quantisation, on any level."""
        keys = ("quantization_config", "compression_config")
        levels = (self.settings, self.text_settings)
        return [stated for level in levels for key in keys if (stated := level.get(key))]

    def plain_though_declared(self, stated: object) -> bool:
        """Whether a scheme that always packs weights is declared, and every tensor is plain."""
        method = stated.get("quant_method") if isinstance(stated, dict) else None
        if not isinstance(method, str) or method.lower() not in packing.STORED_PACKED:
            return False
        plain = all(dtype in FLOATS for dtype, _ in self.own_forms)
        return plain and not self.modules

    @cached_property
    def modules(self) -> tuple[Module, ...]:
        """The modules that are stored in parts, or whose weight is of a packed type."""
        dtypes = {dtype for dtype, _ in self.own_forms}
        return tuple(packing.modules(self.tensors, self.own_kinds, dtypes))

    @cached_property
    def packed(self) -> str:
        """Why names and shapes are not those of plain weights, "" where they are."""
        if self.altered and self.kinds.first(is_adapter):
            return "an adapter is not merged"
        matrices = {dtype for dtype, shape in self.own_forms if len(shape) == 2}
        return quantised(self.own_kinds, matrices) or ""


def _same_blocks(bare: list[str], prefixed: list[str], prefix: str) -> bool:
    """Whether layers stand under both roots and are made of the same parts.

    The parts are compared, since another family's layout may share the root and nothing else.
    """
    root = roots(bare).main
    if root is None or prefix + root not in roots(prefixed).counts:
        return False
    ours, theirs = _parts(bare, root), _parts(prefixed, prefix + root)
    return bool(ours) and ours <= theirs


def _parts(names: list[str], root: str) -> set[str]:
    """The names of the modules right below the layer number."""
    tails = (
        n.removeprefix(root + ".").partition(".")[2] for n in names if n.startswith(root + ".")
    )
    return {tail.partition(".")[0] for tail in tails}
