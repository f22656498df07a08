"""The tables in docs/command-line.md and docs/formats.md: `python -m t2v_core.frontends.cli.reference`."""

from __future__ import annotations

from t2v_core.fields import Field
from t2v_core.media import WRITERS, Writer
from t2v_core.request import FIELDS
from t2v_core.service import CHOICES


def flags_table() -> str:
    """One row a field, in the table's order."""
    rows = [_row(field) for field in FIELDS.values() if field.name != "prompt"]
    return "\n".join(["| flag | what it does | values | default |", "|---|---|---|---|", *rows])


def formats_table() -> str:
    """One row a format, the default first."""
    return "\n".join(
        [
            "| format | file | what it is | colors, decoded again | sound |",
            "|---|---|---|---|---|",
            *map(_format_row, WRITERS.values()),
        ]
    )


def _format_row(writer: Writer) -> str:
    file = "a folder" if writer.is_folder else f"`{writer.suffix}`"
    sound = "yes" if writer.has_sound else ""
    return f"| `{writer.name}` | {file} | {writer.help} | {writer.colors} | {sound} |"


def _row(field: Field) -> str:
    values = ", ".join(CHOICES[field.name]) if field.name in CHOICES else field.limits
    if field.kind is bool:
        values, default = "", "off"
    elif field.optional:
        default = field.spec.otherwise
    else:
        default = "" if field.default == "" else str(field.default)
    return f"| `{field.flag}` | {field.spec.help} | {values} | {default} |"


if __name__ == "__main__":
    print(flags_table(), formats_table(), sep="\n\n")
