"""NAME=VALUE, as the command line and its options take it."""

import pytest

from melotte.cli_words import known_of, options_of
from melotte.errors import MelotteValueError
from melotte.named_words import named_word, named_words


def test_words_are_split_at_the_first_sign():
    assert named_word(" a = b=c ") == ("a", "b=c")
    assert named_words(["a=1", "b=x"]) == {"a": "1", "b": "x"}
    assert named_words([]) == {}


@pytest.mark.parametrize("word", ["a", "a=", "=a", " = ", ""])
def test_other_words_are_refused_with_the_form_that_is_needed(word):
    with pytest.raises(MelotteValueError) as caught:
        named_word(word, "--known", "NAME=NUMBER", "distance=7.1")
    said = f"--known {word!r} is not of the form NAME=NUMBER, such as distance=7.1"
    assert str(caught.value) == said


def test_a_name_comes_once():
    """Else the last would win, and nobody would know."""
    with pytest.raises(MelotteValueError, match="--known distance is given twice"):
        known_of(["distance=7", "distance=9"])
    with pytest.raises(MelotteValueError, match="--option sky is given twice"):
        options_of(["sky=0", "sky=1"])


def test_values_of_options_are_numbers_and_truth_values():
    found = options_of(["sky=0", "noise=0.5,2", "deep=true", "unit=counts/s"])
    assert found == {"sky": 0, "noise": "0.5,2", "deep": True, "unit": "counts/s"}
    with pytest.raises(MelotteValueError, match="not valid YAML"):
        options_of(["bands=[V"])
    assert known_of(None) == {}
    with pytest.raises(MelotteValueError, match="'distance=near' is not of the form NAME=NUMBER"):
        known_of(["distance=near"])


def test_words_of_yes_and_no_stay_words():
    """So that an error message shows what was typed."""
    given = options_of(["missing_band=yes", "a=off", "b=true", "c=False", "d=1.5", "e=[1, 2]"])
    expected = {"missing_band": "yes", "a": "off", "b": True, "c": False, "d": 1.5, "e": [1, 2]}
    assert given == expected
