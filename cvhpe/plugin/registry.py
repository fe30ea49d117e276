"""Plugins: how they are found, loaded one by one in isolation, and what is wrong with those that fail.

A plugin is one entry point of the group ``cvhpe.modalities``: a module (or object) with the hook
``cvhpe_modalities()``, ``cvhpe_datasets()`` or both, each marked with :data:`hookimpl`. The built-in
modalities come the same way. A plugin that cannot be used is kept as a record with the reason, and
never stops another one. This module imports no torch; loading a modality does.
"""

from __future__ import annotations

import inspect
import os
import re
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import Distribution, EntryPoint, distribution, distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pluggy

from cvhpe.config.lists import comma_list
from cvhpe.errors import UserError, nearest

if TYPE_CHECKING:
    from cvhpe.plugin.contract import Modality
    from cvhpe.plugin.sample import DatasetSpec

State = Literal["found", "ok", "broken", "disabled"]
Kind = Literal["modality", "data set"]

GROUP = "cvhpe.modalities"
API_VERSION = 1  # of the contract; plugins written for the version before it are still accepted
HOOKS: dict[str, Kind] = {"cvhpe_modalities": "modality", "cvhpe_datasets": "data set"}
OWN = "cvhpe"  # our distribution: its names cannot be taken by another one

hookspec = pluggy.HookspecMarker("cvhpe")
hookimpl = pluggy.HookimplMarker("cvhpe")


class Hooks:
    """The hooks of a plugin; it brings at least one of the two."""

    @hookspec
    def cvhpe_modalities(self) -> Iterable[Modality]:  # type: ignore[empty-body]
        """The modalities that the plugin supplies."""

    @hookspec
    def cvhpe_datasets(self) -> Iterable[DatasetSpec]:  # type: ignore[empty-body]
        """The data sets that the plugin can read; must not import torch."""


@dataclass
class Plugin:
    """What is known of one entry point.

    name: of the entry point. dist, version: of the installed distribution that declares it.
    state: ``found`` (not loaded yet), ``ok``, ``broken`` or ``disabled``.
    error: one line: why it is not ok. trace: the whole traceback, where there was one.
    supplied: kind -> name -> what its hooks gave, also where it turned out broken later.
    """

    name: str
    dist: str
    version: str
    state: State = "found"
    error: str = ""
    trace: str = ""
    load: Callable[[], Any] = field(default=lambda: None, repr=False, compare=False)
    supplied: dict[Kind, dict[str, Any]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def package(self) -> str:
        """Distribution and version, as a person would ask pip for it."""
        return f"{self.dist} {self.version}".strip()

    @property
    def is_builtin(self) -> bool:
        return _normal(self.dist) == OWN

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(self.supplied.get("modality", ()))

    @property
    def datasets(self) -> tuple[str, ...]:
        return tuple(self.supplied.get("data set", ()))


def _normal(dist: str) -> str:
    """The spelling of a distribution's name that all its spellings share (PEP 503)."""
    return re.sub(r"[-_.]+", "-", dist.strip()).lower()


def _one_line(text: object) -> str:
    return " ".join(str(text).split())


def installed() -> list[Plugin]:
    """One record for every entry point of the group, not loaded yet, built-ins first."""
    plugins: list[Plugin] = []
    seen: dict[str, str] = {}
    for dist in distributions():
        # The text is looked at first: reading every installed package's metadata would be slow, and
        # a malformed entry point of somebody else's package is no business of ours.
        if GROUP in (dist.read_text("entry_points.txt") or ""):
            seen.setdefault(_normal(_name(dist)), _name(dist))
    for name in seen.values():
        try:
            dist = distribution(name)  # the first on sys.path, the one that an import would find
            found: list[EntryPoint] = [e for e in dist.entry_points if e.group == GROUP]
            plugins += [Plugin(e.name, name, dist.version or "", load=e.load) for e in found]
        except Exception as error:
            plugins.append(
                Plugin("?", name, "", "broken", f"unreadable entry points: {type(error).__name__}: {_one_line(error)}")
            )
    return sorted(plugins, key=lambda p: (not p.is_builtin, _normal(p.dist), p.name))


def _name(dist: Distribution) -> str:
    return dist.metadata["Name"] or "(nameless)"


def disabled_by_user() -> set[str]:
    """What ``CVHPE_DISABLE_PLUGINS`` names: distributions, ``dist:entry`` or ``*``, comma-separated."""
    return {_normal(word) for word in comma_list(os.environ.get("CVHPE_DISABLE_PLUGINS", ""))}


def unknown_in_disable_list(plugins: Iterable[Plugin]) -> list[str]:
    """Words of ``CVHPE_DISABLE_PLUGINS`` that name no plugin: most likely misspelt."""
    known = {_normal(n) for p in plugins for n in (p.dist, f"{p.dist}:{p.name}")}
    return sorted(disabled_by_user() - known - {"*"})


def strict() -> bool:
    """Whether ``CVHPE_STRICT_PLUGINS`` asks that a broken plugin stop everything."""
    return os.environ.get("CVHPE_STRICT_PLUGINS", "").lower() not in ("", "0", "false", "no")


class Registry:
    """The plugins of this process; loads them when the first name is asked for.

    ``plugins`` is for tests and defaults to :func:`installed`. Usually one calls :func:`registry`.
    """

    def __init__(self, plugins: Iterable[Plugin] | None = None) -> None:
        self._plugins = installed() if plugins is None else list(plugins)
        self._settled = False
        off = disabled_by_user()
        for p in self._plugins:
            named = {_normal(p.dist), _normal(f"{p.dist}:{p.name}")} & off
            if p.state == "found" and (named or ("*" in off and not p.is_builtin)):
                p.state = "disabled"
                p.error = "switched off by CVHPE_DISABLE_PLUGINS"

    @property
    def plugins(self) -> tuple[Plugin, ...]:
        """Every plugin found, loaded."""
        self._settle()
        return tuple(self._plugins)

    @property
    def modalities(self) -> Mapping[str, Modality]:
        """Name -> modality, of every plugin that is ok."""
        self._settle()
        return self._served("modality")

    @property
    def datasets(self) -> Mapping[str, DatasetSpec]:
        """Name -> data set, of every plugin that is ok. Imports no torch where no plugin is installed."""
        if all(p.is_builtin for p in self._plugins):
            self._load_own_datasets()
        else:
            self._settle()
        return self._served("data set")

    def modality(self, name: str) -> Modality:
        """The modality of that name; :class:`UserError` with the nearest name where there is none."""
        found = self.modalities
        return found[name] if name in found else self._unknown("modality", name, found)

    def dataset(self, name: str) -> DatasetSpec:
        """The data set of that name; :class:`UserError` with the nearest name where there is none."""
        self._load_own_datasets()  # their names are ours: neither torch nor another plugin is needed to know
        found: Mapping[str, DatasetSpec] = self._served("data set")
        if name not in found:
            found = self.datasets
        return found[name] if name in found else self._unknown("data set", name, found)

    def supplier(self, modality: str) -> Plugin:
        """The plugin that supplies a modality: what a trained run has to remember."""
        self.modality(modality)
        return next(p for p in self._plugins if p.state == "ok" and modality in p.modalities)

    def _served(self, kind: Kind) -> dict[str, Any]:
        return {n: item for p in self._plugins if p.state == "ok" for n, item in p.supplied.get(kind, {}).items()}

    def _unknown(self, kind: Kind, name: str, found: Iterable[str]) -> Any:
        broken = [p for p in self._plugins if p.state == "broken"]
        claims = [p for p in broken if name in (p.name, *p.supplied.get(kind, ()))]
        head = f"{kind} {name!r} cannot be used" if claims else f"unknown {kind} {name!r}: {nearest(name, found)}"
        faults = {(p.package, p.error): p for p in claims or broken}  # one cause often breaks several of a package
        notes = [f"plugin {p.name} of {p.package} is broken: {p.error}" for p in faults.values()]
        if not claims:
            notes += [f"plugin {p.name} of {p.package} is {p.error}" for p in self._plugins if p.state == "disabled"]
        if not any(p.is_builtin for p in self._plugins):
            notes.append(f"{OWN} itself is not installed in this Python: pip install .")
        raise UserError("; ".join([head, *notes]))

    def _load_own_datasets(self) -> None:
        for p in self._plugins:
            if p.is_builtin and p.name == "datasets":
                _load(p)

    def _settle(self) -> None:
        """Load every plugin, then take out those that claim a name of another one."""
        if self._settled:
            return
        for p in self._plugins:
            _load(p)
        for kind, name, rivals in _contested(self._plugins):
            if any(p.is_builtin for p in rivals):
                for p in rivals:
                    if not p.is_builtin:
                        _break(p, ValueError(f"{kind} {name!r} is a built-in's name; call it otherwise"))
        # Who run_lock a built-in's name is out by now and no rival to anybody. Of the others none gets the name, as
        # nobody could say which is meant.
        for kind, name, rivals in _contested(self._plugins):
            for p in rivals:
                _break(p, ValueError(f"{kind} {name!r} is also supplied by {_others(p, rivals)}"))
        self._settled = True


def _contested(plugins: Iterable[Plugin]) -> list[tuple[Kind, str, list[Plugin]]]:
    """Every name that more than one usable plugin supplies, with those plugins."""
    usable = [p for p in plugins if p.state == "ok"]
    names: list[tuple[Kind, str]] = sorted({(kind, n) for p in usable for kind in p.supplied for n in p.supplied[kind]})
    claims = [(kind, n, [p for p in usable if n in p.supplied.get(kind, ())]) for kind, n in names]
    return [claim for claim in claims if len(claim[2]) > 1]


def _others(p: Plugin, rivals: list[Plugin]) -> str:
    """The rivals of a plugin, and how to switch them off."""
    called, switched = [], []
    for q in rivals:
        if q is not p:
            near = _normal(q.dist) == _normal(p.dist)  # its distribution's name would switch off p as well
            called.append(f"entry point {q.name!r} of {q.package}" if near else q.package)
            switched.append(f"{q.dist}:{q.name}" if near else q.dist)
    words = ",".join(dict.fromkeys(switched))
    return f"{' and '.join(dict.fromkeys(called))}; to keep this one: CVHPE_DISABLE_PLUGINS={words}"


def _load(p: Plugin) -> None:
    if p.state != "found":
        return
    try:
        for kind, item in _call_hooks(p.load()):
            if item.name in p.supplied.setdefault(kind, {}):
                raise ValueError(f"supplies {kind} {item.name!r} twice")
            p.supplied[kind][item.name] = item
    except (Exception, SystemExit) as error:
        _break(p, error)
    else:
        p.state = "ok"


def _break(p: Plugin, error: BaseException) -> None:
    reason = _one_line(error) or "no message"
    if isinstance(error, SystemExit):
        reason = f"wants to end the program: exit({error.code!r})"
    place = [f for f in traceback.extract_tb(error.__traceback__) if not _ours(f.filename)]
    where = f" ({Path(place[-1].filename).name}:{place[-1].lineno})" if place else ""
    p.state = "broken"
    p.error = f"{type(error).__name__}: {reason}{where}"
    p.trace = "".join(traceback.format_exception(error))
    if strict():
        raise UserError(f"plugin {p.package} ({p.name}): {p.error}") from error


def _ours(filename: str) -> bool:
    """Whether a frame says nothing to the plugin's author: ours, the importer's, pluggy's."""
    return (
        filename.startswith("<frozen")
        or Path(filename).parent.name in ("pluggy", "metadata", "importlib")
        or (Path(filename) == Path(__file__))
    )


def _call_hooks(plugin: Any) -> Iterator[tuple[Kind, Any]]:
    """What one plugin's hooks give, every item checked. A manager of its own: nothing is shared."""
    manager = pluggy.PluginManager("cvhpe")
    manager.add_hookspecs(Hooks)
    manager.register(plugin)  # refuses a hook that declares arguments which the specification lacks
    marked = [c.name for c in manager.get_hookcallers(plugin) or ()]
    written = [n for n in dir(plugin) if n.startswith("cvhpe_") and inspect.isroutine(getattr(plugin, n))]
    for name in written:
        if name in HOOKS and name not in marked:
            raise TypeError(f"{name}() lacks the decorator @cvhpe.hookimpl")
        if name not in HOOKS and (name in marked or not marked):
            raise TypeError(f"unknown hook {name!r}: {nearest(name, HOOKS)}")
    if not marked:
        raise TypeError(f"has no hook; write {' or '.join(HOOKS)}, marked with @cvhpe.hookimpl")
    for name, kind in HOOKS.items():
        if name not in marked:
            continue
        given = getattr(manager.hook, name)()  # one plugin, one answer; pluggy drops a None
        if not given or isinstance(given[0], str | bytes) or not isinstance(given[0], Iterable):
            raise TypeError(f"{name}() gave {_short(given[0]) if given else None}; return a list")
        yield from ((kind, _checked(name, item)) for item in given[0])


def _checked(hook: str, item: Any) -> Any:
    if HOOKS[hook] == "modality":
        from cvhpe.plugin.contract import Modality

        expected: type = Modality
    else:
        from cvhpe.plugin.sample import DatasetSpec

        expected = DatasetSpec
    if not isinstance(item, expected):
        raise TypeError(f"{hook}() gave {_short(item)} of type {type(item).__name__}; expected {expected.__name__}")
    api, name = getattr(item, "api", None), getattr(item, "name", None)
    if not isinstance(api, int) or not API_VERSION - 1 <= api <= API_VERSION:
        speaks = f"this cvhpe speaks {API_VERSION - 1} and {API_VERSION}"
        mend = "update cvhpe" if isinstance(api, int) and api > API_VERSION else "update the plugin"
        raise RuntimeError(f"{name!r} is written for API {api}, {speaks}; {mend}")
    return item


def _short(item: object) -> str:
    return _one_line(repr(item))[:60]


@cache
def registry() -> Registry:
    """The registry of this process, made when first asked for (``registry.cache_clear()`` forgets it)."""
    return Registry()
