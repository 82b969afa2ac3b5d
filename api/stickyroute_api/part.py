"""The base of all that a snapshot is made of."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Part(BaseModel):
    """Immutable, and refuses what it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")
