"""Form fields that let people write lists, pairs and prices the way they say them."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from django import forms
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError

NANO = Decimal(1_000_000_000)


class ListField(forms.Field):
    """One item a line, or commas between them."""

    def __init__(self, *, rows: int = 3, **kwargs: Any) -> None:
        kwargs.setdefault("widget", forms.Textarea(attrs={"rows": rows, "cols": 40, "spellcheck": "false"}))
        super().__init__(required=False, **kwargs)

    def to_python(self, value: Any) -> list[str]:
        if isinstance(value, list):
            return value
        return [item.strip() for item in re.split(r"[,\n]", str(value or "")) if item.strip()]

    def prepare_value(self, value: Any) -> str:
        return "\n".join(map(str, value)) if isinstance(value, list) else str(value or "")


class PairsField(forms.Field):
    """A name and a value on each line."""

    def __init__(self, *, mark: str, **kwargs: Any) -> None:
        kwargs.setdefault("widget", forms.Textarea(attrs={"rows": 3, "cols": 60, "spellcheck": "false"}))
        super().__init__(required=False, **kwargs)
        self.mark = mark

    def to_python(self, value: Any) -> dict[str, str]:
        if isinstance(value, dict):
            return value
        found: dict[str, str] = {}
        for line in re.split(r"\r?\n", str(value or "")):
            if not line.strip():
                continue
            name, mark, text = line.partition(self.mark)
            if not mark or not name.strip():
                raise ValidationError(f"Write one on each line, as name{self.mark}value.")
            found[name.strip()] = text.strip(" \t")
        return found

    def prepare_value(self, value: Any) -> str:
        if not isinstance(value, dict):
            return str(value or "")
        space = " " if self.mark == ":" else ""
        return "\n".join(f"{name}{self.mark}{space}{text}" for name, text in value.items())


class DollarsField(forms.DecimalField):
    """Dollars on the page, integer nano-dollars in the row."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(min_value=Decimal(0), max_value=Decimal(1_000_000), decimal_places=9, **kwargs)

    def clean(self, value: Any) -> Any:
        dollars = super().clean(value)
        return None if dollars is None else int(dollars * NANO)

    def prepare_value(self, value: Any) -> Any:
        return f"{(Decimal(value) / NANO).normalize():f}" if isinstance(value, int) else value

    def has_changed(self, initial: Any, data: Any) -> bool:
        if self.disabled:
            return False
        try:
            return bool(self.clean(data) != initial) if data not in self.empty_values else initial is not None
        except ValidationError:
            return True


class TolerantForm(forms.ModelForm):  # type: ignore[type-arg]
    """Shows what is wrong with fields that this form does not have beside the form, instead of failing."""

    def add_error(self, field: str | None, error: Any) -> None:
        if field is None and hasattr(error, "error_dict"):
            sorted_out: dict[str, list[Any]] = {}
            for name, errors in error.error_dict.items():
                sorted_out.setdefault(name if name in self.fields else NON_FIELD_ERRORS, []).extend(errors)
            error = ValidationError(sorted_out)
        super().add_error(field, error)
