from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amm_exporter.errors import UnitError
from amm_exporter.units import (
    DURATION_FORMS,
    GIB,
    KIB,
    MAX_BYTES,
    MAX_SECONDS,
    MIB,
    MULTIPLE_FORMS,
    RATE_FORMS,
    RATIO_FORMS,
    SIZE_FORMS,
    TIB,
    format_duration,
    format_rate,
    format_ratio,
    format_size,
    parse_duration,
    parse_multiple,
    parse_rate,
    parse_ratio,
    parse_size,
)

TOO_LARGE = "it is larger than 2**63 - 1 bytes"
PARSERS = (parse_size, parse_ratio, parse_duration, parse_rate, parse_multiple)


@pytest.mark.parametrize(
    ("written", "size_bytes"),
    [
        ("1536MB", 1536 * MIB),
        ("1536MiB", 1536 * MIB),
        ("1.5 GiB", 1536 * MIB),
        ("1.5GB", 1536 * MIB),
        (" 64 kb ", 64 * KIB),
        ("1tb", TIB),
        (".5MB", 512 * KIB),
        ("2.MB", 2 * MIB),
        ("17B", 17),
        ("4096", 4096),
        (4096, 4096),
        (0, 0),
        ("0GB", 0),
        (MAX_BYTES, MAX_BYTES),
        (str(MAX_BYTES), MAX_BYTES),
        ("00000000000000000001", 1),
    ],
)
def test_a_size(written: object, size_bytes: int) -> None:
    assert parse_size(written) == size_bytes


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("", None),
        ("GB", None),
        ("1.5", "write '1.5MB' if megabytes are meant"),
        ("10 MBananas", "unknown unit 'MBananas'"),
        ("10 Mib/s", None),
        ("10 MIBS", "unknown unit 'MIBS', did you mean 'MiB'?"),
        ("1e9", None),
        ("1,5GB", None),
        ("0x10", None),
        ("1 GB 2", None),
        ("１GB", None),
        ("+1GB", None),
        ("-1GB", "it cannot be negative"),
        (-1, "a size cannot be negative"),
        (str(MAX_BYTES + 1), TOO_LARGE),
        (MAX_BYTES + 1, TOO_LARGE),
        ("9000000TB", TOO_LARGE),
        ("8388608.5TB", TOO_LARGE),
        ("9" * 30, TOO_LARGE),
        ("1" + "0" * 400 + ".5GB", TOO_LARGE),
        (1.5, None),
        (math.nan, None),
        (math.inf, None),
        (True, None),
        (None, None),
        (b"1GB", None),
        (["1GB"], None),
    ],
)
def test_what_is_no_size(written: object, hint: str | None) -> None:
    with pytest.raises(UnitError) as caught:
        parse_size(written)
    assert (caught.value.got, caught.value.expected, caught.value.hint) == (written, SIZE_FORMS, hint)


@pytest.mark.parametrize(
    ("written", "ratio"),
    [
        ("85%", 0.85),
        ("62.5 %", 0.625),
        ("0.85", 0.85),
        (0.85, 0.85),
        (0, 0),
        (1, 1),
        ("100%", 1),
        ("0%", 0),
        (".5", 0.5),
    ],
)
def test_a_ratio(written: object, ratio: float) -> None:
    parsed = parse_ratio(written)
    assert parsed == ratio
    assert isinstance(parsed, float)


@pytest.mark.parametrize(
    ("written", "expected", "hint"),
    [
        (85, RATIO_FORMS + " between 0% and 100%", "write '85%' if a percentage is meant"),
        ("85", RATIO_FORMS + " between 0% and 100%", "write '85%' if a percentage is meant"),
        (1.25, RATIO_FORMS + " between 0% and 100%", "write '1.25%' if a percentage is meant"),
        ("100.1%", RATIO_FORMS + " between 0% and 100%", None),
        (101, RATIO_FORMS + " between 0% and 100%", None),
        (-0.1, RATIO_FORMS + " between 0% and 100%", None),
        (math.nan, RATIO_FORMS + " between 0% and 100%", None),
        (math.inf, RATIO_FORMS + " between 0% and 100%", None),
        (10**400, RATIO_FORMS + " between 0% and 100%", None),
        ("-5%", RATIO_FORMS, "it cannot be negative"),
        ("nan", RATIO_FORMS, None),
        ("5%%", RATIO_FORMS, None),
        ("1e-3", RATIO_FORMS, None),
        (True, RATIO_FORMS, None),
        (None, RATIO_FORMS, None),
    ],
)
def test_what_is_no_ratio(written: object, expected: str, hint: str | None) -> None:
    with pytest.raises(UnitError) as caught:
        parse_ratio(written)
    assert (caught.value.expected, caught.value.hint) == (expected, hint)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("500ms", 0.5), ("1s", 1), ("1.5 m", 90), ("2h", 7200), ("1D", 86400), ("3", 3), (3, 3), (0.25, 0.25),
     (MAX_SECONDS, MAX_SECONDS)],
)  # fmt: skip
def test_a_duration(written: object, seconds: float) -> None:
    assert parse_duration(written) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("5 parsecs", "unknown unit 'parsecs'"),
        ("5 mss", "unknown unit 'mss', did you mean 'ms'?"),
        ("-1s", "it cannot be negative"),
        ("s", None),
        ("1m30s", None),
        (True, None),
        (None, None),
    ],
)
def test_what_is_no_duration(written: object, hint: str | None) -> None:
    with pytest.raises(UnitError) as caught:
        parse_duration(written)
    assert (caught.value.expected, caught.value.hint) == (DURATION_FORMS, hint)


@pytest.mark.parametrize("written", [0, "0s", -1, math.nan, math.inf, 10**400, "9" * 400, MAX_SECONDS * 1.001])
def test_a_duration_out_of_bounds(written: object) -> None:
    with pytest.raises(UnitError, match="more than zero and at most 100 years"):
        parse_duration(written)


def test_a_rate() -> None:
    assert parse_rate("1MB/h") == MIB / 3600
    assert parse_rate(" 64 KiB / s ") == 64 * KIB


@pytest.mark.parametrize("written", ["1MB", "1MB/ms", "1MB/fortnight", "1MB/h/s", "x/h", "/h", "-1MB/h", 5, None, ""])
def test_what_is_no_rate(written: object) -> None:
    with pytest.raises(UnitError) as caught:
        parse_rate(written)
    assert (caught.value.got, caught.value.expected) == (written, RATE_FORMS)


def test_a_multiple() -> None:
    assert parse_multiple("1.5x target") == 1.5
    assert parse_multiple(" 2 X  Target ") == 2


@pytest.mark.parametrize("written", ["1.5x", "x target", "0x target", "-1x target", "9" * 400 + "x target", 1.5, None])
def test_what_is_no_multiple(written: object) -> None:
    with pytest.raises(UnitError) as caught:
        parse_multiple(written)
    assert caught.value.expected == MULTIPLE_FORMS


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (-0.3, "0 B"),
        (1023, "1023 B"),
        (KIB, "1 KiB"),
        (1536, "1.5 KiB"),
        (MIB - 52, "1023.9 KiB"),
        (MIB - 1, "1 MiB"),
        (MIB, "1 MiB"),
        (1536 * MIB, "1.5 GiB"),
        (3 * TIB, "3 TiB"),
        (-3277, "-3.2 KiB"),
    ],
)
def test_a_size_is_written_with_its_largest_unit(size_bytes: int, text: str) -> None:
    assert format_size(size_bytes) == text


@pytest.mark.parametrize(("ratio", "text"), [(0.85, "85%"), (0.625, "62.5%"), (0, "0%"), (1.204, "120.4%")])
def test_a_ratio_is_written_in_percent(ratio: float, text: str) -> None:
    assert format_ratio(ratio) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.35, "350ms"), (0.9999, "1s"), (1, "1s"), (59.9, "59.9s"), (300, "5m"), (9000, "2.5h"), (259200, "3d")],
)
def test_a_duration_is_written_with_its_largest_unit(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("rate", "text"), [(MIB, "3.5 GiB/h"), (MIB / 3600, "1 MiB/h"), (0, "0 B/h"), (-2 * GIB, "-7 TiB/h")]
)
def test_a_rate_is_written_per_hour(rate: float, text: str) -> None:
    assert format_rate(rate) == text


def test_a_bound_is_written_in_the_unit_of_its_slope() -> None:
    assert format_rate(0.3 * MIB, like=MIB) == "1.1 GiB/h"
    assert format_rate(0.02 * MIB, like=MIB) == "0.1 GiB/h"
    assert format_size(-3 * KIB, like=1000) == "-3072 B"


@given(st.integers(0, MAX_BYTES - TIB))
def test_a_written_size_is_read_back(size_bytes: int) -> None:
    read = parse_size(format_size(size_bytes))
    assert abs(read - size_bytes) <= 0.05 * max(1, size_bytes)


@given(st.integers(0, TIB), st.integers(0, TIB))
def test_a_larger_size_is_never_written_as_a_smaller_one(one: int, other: int) -> None:
    low, high = sorted((one, other))
    assert parse_size(format_size(low)) <= parse_size(format_size(high))


@given(st.floats(0.001, 1e8))
def test_a_written_duration_is_read_back(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=0.1)


ANYTHING = st.one_of(
    st.text(max_size=20),
    st.text("0123456789.%xKMGBTiBms/h- ", max_size=12),
    st.floats(),
    st.integers(-(10**400), 10**400),
    st.none(),
    st.booleans(),
    st.binary(max_size=4),
    st.lists(st.integers(), max_size=2),
)


@given(ANYTHING)
def test_a_parser_gives_a_finite_number_or_a_unit_error(value: object) -> None:
    for parse in PARSERS:
        try:
            number = parse(value)
        except UnitError as error:
            assert len(str(error)) < 500  # noqa: PT017 - every outcome is looked at, not only the raised one
        else:
            assert 0 <= number <= MAX_BYTES
