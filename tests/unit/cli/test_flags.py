import pytest

from builder.commands.flags import Flag, Parsed, parse
from builder.errors import UsageError

FLAGS = (
    Flag(name="tag", short="t", kind="list", metavar="NAME", group="G"),
    Flag(name="file", short="f", metavar="FILE"),
    Flag(name="quiet", short="q", kind="switch"),
    Flag(name="pull", kind="switch"),
)


def read(*words: str) -> Parsed:
    return parse(FLAGS, words)


@pytest.mark.parametrize(
    "words",
    [("-t", "a"), ("-ta",), ("-t=a",), ("--tag", "a"), ("--tag=a",), ("-qt", "a"), ("-qta",)],
)
def test_a_value_may_be_joined_to_its_flag_or_follow_it(words: tuple[str, ...]) -> None:
    assert read(*words).all("tag") == ["a"]


def test_flags_and_words_come_in_any_order() -> None:
    parsed = read("x", "-t", "a", "y", "--tag=b", "-", "-q")

    assert parsed.words == ["x", "y", "-"]
    assert parsed.all("tag") == ["a", "b"]
    assert parsed.switch("quiet")


def test_two_dashes_end_the_flags() -> None:
    assert read("-q", "--", "-t", "--").words == ["-t", "--"]


def test_a_switch_can_be_switched_off() -> None:
    assert not read("--pull=false").switch("pull")
    assert read("--pull=false", "--pull").switch("pull")


def test_a_switch_takes_no_word_from_behind_it() -> None:
    parsed = read("--pull", "x")

    assert parsed.words == ["x"]
    assert parsed.switch("pull")


def test_the_last_of_several_texts_wins() -> None:
    assert read("-f", "a", "-f", "b").text("file") == "b"


def test_empty_values_of_a_list_count_as_none() -> None:
    assert read("--tag=", "-t", "a").all("tag") == ["a"]


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (("--tags", "a"), "unknown flag --tags", "did you mean --tag?"),
        (("--zzz",), "unknown flag --zzz", None),
        (("--pul",), "unknown flag --pul", None),
        (("-x",), "unknown flag -x", None),
        (("-qx",), "unknown flag -x in -qx", None),
        (("--tag",), "--tag needs a value: --tag NAME", None),
        (("-f",), "-f needs a value: -f FILE", None),
    ],
)
def test_a_mistake_is_named_with_the_nearest_flag_that_is_offered(
    words: tuple[str, ...], message: str, hint: str | None
) -> None:
    with pytest.raises(UsageError) as caught:
        read(*words)

    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_a_switch_that_is_neither_true_nor_false_is_refused() -> None:
    with pytest.raises(UsageError, match="--pull=maybe"):
        read("--pull=maybe").switch("pull")
