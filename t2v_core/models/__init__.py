"""Model families, and the weights that people have: found, verified, mapped and loaded strictly."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of network; `load` and `examine` are "module:function", loaded when they are used.

    `folders` are the names, inside a `models` folder, of the folders in which its models lie.
    """

    name: str
    title: str
    folders: tuple[str, ...]
    load: str
    examine: str


FAMILIES = {
    family.name: family
    for family in (
        Family(
            name="modelscope",
            title="ModelScope text to video 1.7B and its fine-tunes",
            folders=("ModelScope", "text2video"),
            load="t2v_core.models.loading:load",
            examine="t2v_core.models.doctor:examine",
        ),
    )
}
"""Every family by name."""
