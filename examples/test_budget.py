"""Three tests, one of which needs more memory than the suite may have.

pytest --amm-budget=256MB examples/test_budget.py
"""


def test_small():
    assert sum(range(1000)) == 499_500


def test_table():
    rows = [{"id": number, "name": str(number)} for number in range(200_000)]
    assert len(rows) == 200_000


def test_oversized():
    buffer = bytearray(300 * 2**20)
    assert len(buffer) == 300 * 2**20
