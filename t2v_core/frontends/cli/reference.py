"""The flags of `generate` as the table in docs/command-line.md: `python -m t2v_core.frontends.cli.reference`."""

from __future__ import annotations

from t2v_core.fields import Field
from t2v_core.request import FIELDS
from t2v_core.service import CHOICES


def flags_table() -> str:
    """One row a field, in the table's order."""
    rows = [_row(field) for field in FIELDS.values() if field.name != "prompt"]
    return "\n".join(["| flag | what it does | values | default |", "|---|---|---|---|", *rows])


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
    print(flags_table())
