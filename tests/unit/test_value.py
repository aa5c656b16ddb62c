import pytest

from builder.value import Value


class Point(Value):
    x: int
    y: int = 0


class Named(Point):
    name: str


def test_fields_are_inherited_and_have_defaults() -> None:
    point = Named(x=1, name="a")

    assert (point.x, point.y, point.name) == (1, 0, "a")


def test_values_are_given_in_order_or_by_name() -> None:
    assert Named(1, 2, "a") == Named(1, name="a", y=2)


@pytest.mark.parametrize(("ordered", "named"), [((1, 2, 3), {}), ((1,), {"x": 1})])
def test_a_field_is_given_once(ordered: tuple[int, ...], named: dict[str, int]) -> None:
    with pytest.raises(TypeError, match="Point: too many"):
        Point(*ordered, **named)


def test_equal_fields_make_equal_values_with_equal_hashes_whatever_the_order() -> None:
    assert Named(name="a", x=1) == Named(x=1, y=0, name="a")
    assert hash(Named(name="a", x=1)) == hash(Named(x=1, y=0, name="a"))
    assert Point(x=1) != Named(x=1, name="a")


def test_a_value_is_frozen() -> None:
    with pytest.raises(AttributeError, match="frozen"):
        Point(x=1).x = 2  # type: ignore[misc]


@pytest.mark.parametrize("given", [{}, {"x": 1, "z": 2}])
def test_missing_and_unknown_fields_are_type_errors(given: dict[str, int]) -> None:
    with pytest.raises(TypeError, match="Point: missing or unknown"):
        Point(**given)


def test_but_changes_some_fields_only() -> None:
    assert Point(x=1, y=2).but(x=3) == Point(x=3, y=2)


def test_a_value_shows_its_fields() -> None:
    assert repr(Point(x=1)) == "Point(x=1, y=0)"
