"""Whether a machine reaches a run: a file or an object that is put there for a moment, and looked for elsewhere."""

from __future__ import annotations

from pathlib import Path

from sweep.storage.cache import named
from sweep.storage.objects import Address, Away, Store, patiently, store_at
from trainers.errors import UserError


def place(directory: Path, name: str) -> str:
    """Of such a file, or object, as every machine finds it."""
    return f"{named(directory)}/{name}"


def put(place: str) -> None:
    """Puts it there, if it is not.

    Raises:
        OSError, UserError: it cannot be written.
    """
    store, name = _split(place)
    if store is None:
        Path(place).touch()
    else:
        patiently(store, lambda: store.write(name, b""))


def sees(place: str) -> bool:
    """Whether this machine finds it; of a path, whether something is there."""
    store, name = _split(place)
    if store is None:
        return Path(place).exists()
    try:
        return store.stamp(name) is not None
    except (Away, UserError):
        return False


def remove(place: str) -> None:
    """Removes it, if it is there."""
    store, name = _split(place)
    if store is None:
        Path(place).unlink(missing_ok=True)
    else:
        patiently(store, lambda: store.delete(name))


def _split(place: str) -> tuple[Store | None, str]:
    run, _, name = place.rpartition("/")
    address = Address.of(place) and Address.of(run)
    return (None if address is None else store_at(address)), name
