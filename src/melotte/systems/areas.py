"""Systems whose mocks for training, validation and tests come from places kept apart."""

from __future__ import annotations

from typing import Literal, Self

Area = Literal["training", "validation", "test"]
AREAS: tuple[Area, ...] = ("training", "validation", "test")


class PlacedSystem:
    """A system of one area, which gives itself in another.

    Parameters
    ----------
    area : {"training", "validation", "test"}
    """

    area: Area = "training"

    def in_area(self, area: Area) -> Self:
        """The same system, whose mocks come from another area.

        Parameters
        ----------
        area : {"training", "validation", "test"}

        Raises
        ------
        ValueError
            For another word.
        """
        if area == self.area:
            return self
        other = object.__new__(type(self))
        other.__dict__ = self.__dict__ | {"area": AREAS[AREAS.index(area)]}
        return other
