"""Number types that say which values are possible; the plan is checked against them before it runs."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what scikit-learn takes
Several = Annotated[int, Field(ge=1)]
Pair = Annotated[list[BelowOne], Field(min_length=2, max_length=2)]
Shares = list[Share]
