import pytest
from hypothesis import given
from hypothesis import strategies as st

from melotte.errors import MelotteValueError
from melotte.flags import MEANING, Flag, decode_flags, encode_flags


@given(st.sets(st.sampled_from(list(Flag.__members__))))
def test_decoding_undoes_encoding(names):
    assert set(decode_flags(encode_flags(names))) == names


def test_bits_are_frozen():
    # Catalogues written with one version are read with another: a bit never moves.
    assert {flag.name: int(flag) for flag in Flag} == {
        "OUT_OF_DOMAIN": 1,
        "OUT_OF_RANGE": 2,
        "PRIOR_EDGE": 4,
        "MULTIMODAL": 8,
        "LOW_VISIBILITY": 16,
        "BAD_PIXELS": 32,
        "FEW_MEMBERS": 64,
        "MERGER": 128,
        "FAILED": 256,
    }
    assert set(MEANING) == set(Flag)


@pytest.mark.parametrize("value", [-1, 512, 1 << 20])
def test_unknown_bits_are_refused(value):
    with pytest.raises(MelotteValueError, match="outside the known 511"):
        decode_flags(value)


def test_unknown_names_are_refused():
    with pytest.raises(MelotteValueError, match="FEW_MEMBERS"):
        encode_flags(["TOO_FEW"])
