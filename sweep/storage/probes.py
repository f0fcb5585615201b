"""Whether a machine reaches a run: a file or an object that is put there for a moment, and looked for elsewhere."""

from __future__ import annotations

from pathlib import Path

from sweep.storage.cache import address_of
from sweep.storage.objects import Address, Away, Store, patiently, store_at
from trainers.errors import UserError


def put(directory: Path, name: str) -> str:
    """Puts it into the run, in its store where it lies in one; gives by what others find it.

    Raises:
        OSError, UserError: it cannot be written.
    """
    if (address := address_of(directory)) is not None:
        store = store_at(address)
        patiently(store, lambda: store.write(name, b""))
        return f"{address}/{name}"
    path = directory.absolute() / name
    path.touch()
    return str(path)


def sees(place: str) -> bool:
    """Whether this machine finds what `put` gave, or a path."""
    store, name = _split(place)
    if store is None:
        return Path(place).exists()
    try:
        return store.stamp(name) is not None
    except (Away, UserError):
        return False


def remove(place: str) -> None:
    """Removes what `put` gave."""
    store, name = _split(place)
    if store is None:
        Path(place).unlink()
    else:
        patiently(store, lambda: store.delete(name))


def _split(place: str) -> tuple[Store | None, str]:
    run, _, name = place.rpartition("/")
    address = Address.of(place) and Address.of(run)
    return (None if address is None else store_at(address)), name
