"""Discover plugins, load each in isolation, and record why a plugin is unusable.

A plugin is one entry point of the group ``cvhpe.modalities``: a module (or object) with the hook
``cvhpe_modalities()``, ``cvhpe_datasets()`` or both, each marked with :data:`hookimpl`. The built-in
modalities use the same entry points. If any part of a plugin is invalid, none of it is registered; a
broken plugin never stops another one. This module imports no torch; loading a modality does.
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

PluginState = Literal["unloaded", "ok", "broken", "disabled"]
ItemKind = Literal["modality", "data set"]

GROUP = "cvhpe.modalities"
API_VERSION = 1
"""Version of the contract; plugins for the version before it are accepted, too."""
HOOKS: dict[str, ItemKind] = {"cvhpe_modalities": "modality", "cvhpe_datasets": "data set"}
BUILTIN_DISTRIBUTION = "cvhpe"
"""No other distribution can supply a name that this one supplies."""

hookspec = pluggy.HookspecMarker("cvhpe")
hookimpl = pluggy.HookimplMarker("cvhpe")


class Hooks:
    """Hook specifications; a plugin implements at least one."""

    @hookspec
    def cvhpe_modalities(self) -> Iterable[Modality]:  # type: ignore[empty-body]
        """Return the modalities that the plugin supplies."""

    @hookspec
    def cvhpe_datasets(self) -> Iterable[DatasetSpec]:  # type: ignore[empty-body]
        """Return the data sets that the plugin can read; must not import torch."""


@dataclass
class Plugin:
    """State of one entry point.

    Attributes:
        name: Name of the entry point.
        dist: Installed distribution that declares it.
        version: Version of that distribution.
        state: ``unloaded``, ``ok``, ``broken`` or ``disabled``.
        error: One line: why the state is not ``ok``.
        traceback: Full traceback of the error, if an exception caused it.
        load: Imports the plugin.
        supplied: kind -> name -> item returned by the hooks, of broken plugins too.
    """

    name: str
    dist: str
    version: str
    state: PluginState = "unloaded"
    error: str = ""
    traceback: str = ""
    load: Callable[[], Any] = field(default=lambda: None, repr=False, compare=False)
    supplied: dict[ItemKind, dict[str, Any]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def package(self) -> str:
        """Distribution and version, as in ``cvhpe-silhouette 1.0``."""
        return f"{self.dist} {self.version}".strip()

    @property
    def is_builtin(self) -> bool:
        """Whether the plugin comes with cvhpe itself."""
        return _normalize(self.dist) == BUILTIN_DISTRIBUTION

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities it supplies."""
        return tuple(self.supplied.get("modality", ()))

    @property
    def datasets(self) -> tuple[str, ...]:
        """Names of the data sets it supplies."""
        return tuple(self.supplied.get("data set", ()))


def _normalize(dist: str) -> str:
    """Normalised name of a distribution (PEP 503)."""
    return re.sub(r"[-_.]+", "-", dist.strip()).lower()


def _one_line(text: object) -> str:
    return " ".join(str(text).split())


def installed() -> list[Plugin]:
    """List every entry point of the group, unloaded, built-ins first."""
    plugins: list[Plugin] = []
    names: dict[str, str] = {}
    for dist in distributions():
        # Searching the text is faster than parsing it, and skips malformed entry points of unrelated packages.
        if GROUP in (dist.read_text("entry_points.txt") or ""):
            names.setdefault(_normalize(_dist_name(dist)), _dist_name(dist))
    for name in names.values():
        try:
            dist = distribution(name)  # the first on sys.path, which an import uses as well
            entries: list[EntryPoint] = [e for e in dist.entry_points if e.group == GROUP]
            plugins += [Plugin(e.name, name, dist.version or "", load=e.load) for e in entries]
        except Exception as error:
            plugins.append(
                Plugin("?", name, "", "broken", f"unreadable entry points: {type(error).__name__}: {_one_line(error)}")
            )
    return sorted(plugins, key=lambda p: (not p.is_builtin, _normalize(p.dist), p.name))


def _dist_name(dist: Distribution) -> str:
    return dist.metadata["Name"] or "(nameless)"


def disabled_by_user() -> set[str]:
    """Parse ``CVHPE_DISABLE_PLUGINS``: distributions, ``dist:entry`` or ``*``, comma-separated."""
    return {_normalize(word) for word in comma_list(os.environ.get("CVHPE_DISABLE_PLUGINS", ""))}


def unknown_in_disable_list(plugins: Iterable[Plugin]) -> list[str]:
    """List the words of ``CVHPE_DISABLE_PLUGINS`` that name no plugin."""
    known = {_normalize(n) for p in plugins for n in (p.dist, f"{p.dist}:{p.name}")}
    return sorted(disabled_by_user() - known - {"*"})


def is_strict() -> bool:
    """Whether ``CVHPE_STRICT_PLUGINS`` is set: a broken plugin is an error then."""
    return os.environ.get("CVHPE_STRICT_PLUGINS", "").lower() not in ("", "0", "false", "no")


class Registry:
    """The plugins of this process, loaded on first use. :func:`registry` returns the shared instance.

    Args:
        plugins: Plugins to manage; by default :func:`installed`.
    """

    def __init__(self, plugins: Iterable[Plugin] | None = None) -> None:
        self._plugins = installed() if plugins is None else list(plugins)
        self._loaded = False
        off = disabled_by_user()
        for p in self._plugins:
            named = {_normalize(p.dist), _normalize(f"{p.dist}:{p.name}")} & off
            if p.state == "unloaded" and (named or ("*" in off and not p.is_builtin)):
                p.state = "disabled"
                p.error = "switched off by CVHPE_DISABLE_PLUGINS"

    @property
    def plugins(self) -> tuple[Plugin, ...]:
        """Every installed plugin, loaded."""
        self._load_all()
        return tuple(self._plugins)

    @property
    def modalities(self) -> Mapping[str, Modality]:
        """Name -> modality of every usable plugin."""
        self._load_all()
        return self._usable_items("modality")

    @property
    def datasets(self) -> Mapping[str, DatasetSpec]:
        """Name -> data set of every usable plugin. Imports no torch if only built-ins are installed."""
        if all(p.is_builtin for p in self._plugins):
            self._load_builtin_datasets()
        else:
            self._load_all()
        return self._usable_items("data set")

    def modality(self, name: str) -> Modality:
        """Return the modality of that name.

        Args:
            name: Its name.

        Returns:
            The modality.

        Raises:
            UserError: If there is none; the message has the nearest name and the broken plugins.
        """
        known = self.modalities
        if name not in known:
            raise self._unknown("modality", name, known)
        return known[name]

    def dataset(self, name: str) -> DatasetSpec:
        """Return the data set of that name.

        Args:
            name: Its name, as in ``--data NAME:PATH``.

        Returns:
            The data set.

        Raises:
            UserError: If there is none; the message has the nearest name and the broken plugins.
        """
        self._load_builtin_datasets()  # no plugin can take a built-in's name: neither torch nor a plugin is loaded
        known: Mapping[str, DatasetSpec] = self._usable_items("data set")
        if name not in known:
            known = self.datasets
        if name not in known:
            raise self._unknown("data set", name, known)
        return known[name]

    def supplier(self, modality: str) -> Plugin:
        """Return the plugin that supplies a modality; trained runs record it."""
        self.modality(modality)
        return next(p for p in self._plugins if p.state == "ok" and modality in p.modalities)

    def _usable_items(self, kind: ItemKind) -> dict[str, Any]:
        return {n: item for p in self._plugins if p.state == "ok" for n, item in p.supplied.get(kind, {}).items()}

    def _unknown(self, kind: ItemKind, name: str, known: Iterable[str]) -> UserError:
        broken = [p for p in self._plugins if p.state == "broken"]
        claims = [p for p in broken if name in (p.name, *p.supplied.get(kind, ()))]
        head = f"{kind} {name!r} cannot be used" if claims else f"unknown {kind} {name!r}: {nearest(name, known)}"
        faults = {(p.package, p.error): p for p in claims or broken}  # one cause often breaks several entry points
        notes = [f"plugin {p.name} of {p.package} is broken: {p.error}" for p in faults.values()]
        if not claims:
            notes += [f"plugin {p.name} of {p.package} is {p.error}" for p in self._plugins if p.state == "disabled"]
        if not any(p.is_builtin for p in self._plugins):
            notes.append(f"{BUILTIN_DISTRIBUTION} itself is not installed in this Python: pip install .")
        return UserError("; ".join([head, *notes]))

    def _load_builtin_datasets(self) -> None:
        for p in self._plugins:
            if p.is_builtin and p.name == "datasets":
                _load_plugin(p)

    def _load_all(self) -> None:
        """Load every plugin, then mark those broken that supply a name twice."""
        if self._loaded:
            return
        for p in self._plugins:
            _load_plugin(p)
        for kind, name, rivals in _name_conflicts(self._plugins):
            if any(p.is_builtin for p in rivals):
                for p in rivals:
                    if not p.is_builtin:
                        _mark_broken(p, ValueError(f"{kind} {name!r} is a built-in's name; choose another name"))
        # Plugins that took a built-in's name are broken by now. Of the others, none gets a name that several supply.
        for kind, name, rivals in _name_conflicts(self._plugins):
            for p in rivals:
                _mark_broken(p, ValueError(f"{kind} {name!r} is also supplied by {_describe_rivals(p, rivals)}"))
        self._loaded = True


def _name_conflicts(plugins: Iterable[Plugin]) -> list[tuple[ItemKind, str, list[Plugin]]]:
    """Names that more than one usable plugin supplies, with those plugins."""
    usable = [p for p in plugins if p.state == "ok"]
    names: list[tuple[ItemKind, str]] = sorted(
        {(kind, n) for p in usable for kind in p.supplied for n in p.supplied[kind]}
    )
    claims = [(kind, n, [p for p in usable if n in p.supplied.get(kind, ())]) for kind, n in names]
    return [claim for claim in claims if len(claim[2]) > 1]


def _describe_rivals(p: Plugin, rivals: list[Plugin]) -> str:
    """The rivals of a plugin, and how to disable them."""
    names, switches = [], []
    for rival in rivals:
        if rival is not p:
            # The distribution's name alone would disable p as well.
            same_dist = _normalize(rival.dist) == _normalize(p.dist)
            names.append(f"entry point {rival.name!r} of {rival.package}" if same_dist else rival.package)
            switches.append(f"{rival.dist}:{rival.name}" if same_dist else rival.dist)
    words = ",".join(dict.fromkeys(switches))
    return f"{' and '.join(dict.fromkeys(names))}; to keep this one: CVHPE_DISABLE_PLUGINS={words}"


def _load_plugin(p: Plugin) -> None:
    if p.state != "unloaded":
        return
    try:
        for kind, item in _call_hooks(p.load()):
            if item.name in p.supplied.setdefault(kind, {}):
                raise ValueError(f"supplies {kind} {item.name!r} twice")
            p.supplied[kind][item.name] = item
    except (Exception, SystemExit) as error:
        _mark_broken(p, error)
    else:
        p.state = "ok"


def _mark_broken(p: Plugin, error: BaseException) -> None:
    reason = _one_line(error) or "no message"
    if isinstance(error, SystemExit):
        reason = f"calls exit({error.code!r})"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not _is_internal(f.filename)]
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    p.state = "broken"
    p.error = f"{type(error).__name__}: {reason}{where}"
    p.traceback = "".join(traceback.format_exception(error))
    if is_strict():
        raise UserError(f"plugin {p.package} ({p.name}): {p.error}") from error


def _is_internal(filename: str) -> bool:
    """Whether a stack frame is this module's, the importer's or pluggy's, not the plugin's."""
    return (
        filename.startswith("<frozen")
        or Path(filename).parent.name in ("pluggy", "metadata", "importlib")
        or (Path(filename) == Path(__file__))
    )


def _call_hooks(plugin: Any) -> Iterator[tuple[ItemKind, Any]]:
    """Call the hooks of one plugin and check every item. Each plugin has its own plugin manager."""
    manager = pluggy.PluginManager("cvhpe")
    manager.add_hookspecs(Hooks)
    manager.register(plugin)  # raises on a hook with arguments that the specification lacks
    marked = [c.name for c in manager.get_hookcallers(plugin) or ()]
    defined = [n for n in dir(plugin) if n.startswith("cvhpe_") and inspect.isroutine(getattr(plugin, n))]
    for name in defined:
        if name in HOOKS and name not in marked:
            raise TypeError(f"{name}() lacks the decorator @cvhpe.hookimpl")
        if name not in HOOKS and (name in marked or not marked):
            raise TypeError(f"unknown hook {name!r}: {nearest(name, HOOKS)}")
    if not marked:
        raise TypeError(f"has no hook; write {' or '.join(HOOKS)}, marked with @cvhpe.hookimpl")
    for name, kind in HOOKS.items():
        if name not in marked:
            continue
        results = getattr(manager.hook, name)()  # one result a plugin; pluggy drops None
        if not results or isinstance(results[0], str | bytes) or not isinstance(results[0], Iterable):
            raise TypeError(f"{name}() returned {_shorten(results[0]) if results else None}; return a list")
        yield from ((kind, _check_item(name, item)) for item in results[0])


def _check_item(hook: str, item: Any) -> Any:
    if HOOKS[hook] == "modality":
        from cvhpe.plugin.contract import Modality

        expected: type = Modality
    else:
        from cvhpe.plugin.sample import DatasetSpec

        expected = DatasetSpec
    if not isinstance(item, expected):
        raise TypeError(
            f"{hook}() returned {_shorten(item)} of type {type(item).__name__}; expected {expected.__name__}"
        )
    api, name = getattr(item, "api", None), getattr(item, "name", None)
    if not isinstance(api, int) or not API_VERSION - 1 <= api <= API_VERSION:
        supported = f"this cvhpe supports {API_VERSION - 1} and {API_VERSION}"
        fix = "update cvhpe" if isinstance(api, int) and api > API_VERSION else "update the plugin"
        raise RuntimeError(f"{name!r} is written for API {api}, {supported}; {fix}")
    return item


def _shorten(item: object) -> str:
    return _one_line(repr(item))[:60]


@cache
def registry() -> Registry:
    """Return the registry of this process; ``registry.cache_clear()`` makes the next call rescan."""
    return Registry()
