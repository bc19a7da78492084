"""What a shell is offered when Tab is pressed: scenarios, keys of --set, kinds of stubs.

Cheap by necessity: nothing of it makes a scenario, and what is heavy stays unimported.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
from click.shell_completion import CompletionItem


def scenarios(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Embedded scenarios by name and scenario files by path; the shell's own file names where neither fits."""
    from emulator.scenario.load import embedded_scenarios

    found = [name for name in embedded_scenarios() if name.startswith(incomplete)]
    found += [name for name in _files(incomplete) if name not in found]
    return [CompletionItem(name) for name in found] or [CompletionItem(incomplete, type="file")]


def keys(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Keys of the scenario that stands before, of any link profile if none does; a value is left to who types it."""
    from emulator.scenario.keys import Keys

    words = [ctx.params.get("scenario_name"), *ctx.args]  # an option whose value is being typed leaves words unparsed
    known = [profile for word in words if word and (profile := _profile(word)) is not None]
    profiles = known[:1] or Keys(None).profiles()
    found = {leaf: None for one in profiles for leaf in Keys(one).leaves()}
    return [CompletionItem(f"{leaf}=") for leaf in found if leaf.startswith(incomplete)]


def stubs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Kinds of stubs, with what each is."""
    from firmware_stubs.registry import KINDS, NETWORK_KINDS

    summaries = {name: kind.summary for name, kind in KINDS.items()}
    summaries |= {name: kind.summary for name, kind in NETWORK_KINDS.items()}
    return [CompletionItem(name, help=text) for name, text in summaries.items() if name.startswith(incomplete)]


def _files(incomplete: str) -> Iterator[str]:
    folder, _, begun = incomplete.rpartition("/")
    place = Path(f"{folder}/" if "/" in incomplete else ".")
    try:
        names = sorted(one.name for one in place.iterdir() if one.suffix == ".toml" and one.name.startswith(begun))
    except OSError:
        return
    yield from (f"{folder}/{name}" if "/" in incomplete else name for name in names)


def _profile(scenario: str) -> str | None:
    """The link profile of a scenario's file; None if there is no such file."""
    from emulator.scenario.load import embedded_scenarios

    try:
        link = tomllib.loads(embedded_scenarios().get(scenario, Path(scenario)).read_text()).get("link", {})
        return str(link["profile"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
